"""launch/slurm.sh, with an srun and an scontrol of our own."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from tests.launch.conftest import LAUNCH

SCRIPT = LAUNCH / "slurm.sh"
SRUN = """#!/bin/bash
printf '%s\\n' "$@" >srun
trap 'sleep 0.3; exit 75' TERM
[ "$STATUS" = wait ] && while :; do sleep 0.05; done
exit "$STATUS"
"""
SCONTROL = '#!/bin/bash\necho "$@" >scontrol\n'


@pytest.fixture
def cluster(tmp_path):
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    def start(status, **settings):
        environment = {
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_JOB_ID": "7",
            "STATUS": status,
            **settings,
        }
        command = ["bash", SCRIPT, "train", "a b.py", "--out", "$HOME"]
        return subprocess.Popen(command, env=environment, cwd="/", stderr=subprocess.DEVNULL)

    return tmp_path, start


@pytest.mark.parametrize(
    ("status", "queued"), [("0", False), ("2", False), ("1", True), ("75", True), ("134", True)]
)
def test_the_job_is_queued_again_but_when_done_or_mistaken(cluster, status, queued):
    folder, start = cluster
    assert start(status).wait(timeout=30) == (0 if queued else int(status))
    assert (folder / "scontrol").exists() == queued
    assert not queued or (folder / "scontrol").read_text() == "requeue 7\n"
    assert (folder / "srun").read_text().splitlines()[-5:] == [
        *("launch/tpu.py", "train", "a b.py", "--out", "$HOME")
    ]


def test_it_is_not_queued_for_ever(cluster):
    folder, start = cluster
    assert start("1", SLURM_RESTART_COUNT="100").wait(timeout=30) == 1
    assert not (folder / "scontrol").exists()


def test_a_preempted_job_waits_until_its_processes_have_saved(cluster):
    folder, start = cluster
    job = start("wait")
    while not (folder / "srun").exists():
        time.sleep(0.02)
    (process,) = subprocess.run(
        ["pgrep", "-P", str(job.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    time.sleep(0.2)
    job.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert job.poll() is None, "the processes are still at work"
    os.kill(int(process), signal.SIGTERM)
    assert job.wait(timeout=30) == 0
    assert (folder / "scontrol").read_text() == "requeue 7\n"


def test_there_is_a_process_for_each_gpu_and_time_to_save():
    given = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)", SCRIPT.read_text(), re.MULTILINE))
    assert given["gpus-per-node"] == given["ntasks-per-node"]
    assert given["signal"] == "TERM@300", "without B: to the processes, not to the script"
    assert "requeue" in given
    assert not {"gpus-per-task", "gpu-bind"} & set(given)


def test_it_is_shell():
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", SCRIPT, LAUNCH / "again.sh"], check=True)
