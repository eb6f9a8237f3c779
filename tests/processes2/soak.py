"""Does a run that is killed again and again end as if it had not been?

python -m tests.processes2.soak --minutes 30

Two pods of two processes each train the same tiny model beside each other. One is left alone. Of
the other a process drawn at random is killed every one to three minutes, one time in four asked
to leave (SIGTERM) instead, and the pod is started again, as a supervisor does. At the end both
metrics.jsonl must be equal, but for times. Prints every kill, and one line of JSON.
"""

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path

from rbs_jax.train.metrics import read_metrics
from tests.processes2.pods import KILL, SOON, TERM, Pods, timeless
from tests.processes2.tiny_run import variables, write_run

LEFT_ALONE, KILLED = "left_alone", "killed"
PAUSE = (60.0, 180.0)
"""Between two kills [seconds]."""


def main():
    """Run it; exit status 1 if the runs differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30, help="about how long it takes")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        result = soak(Path(folder), options.minutes, random.Random(options.seed))
    print(json.dumps(result))
    return 0 if result["equal"] else 1


def soak(folder, minutes, chance):
    """Both runs, and what came of them."""
    write_run(folder)
    os.environ.update(variables(folder))
    os.chdir(folder)
    pods = Pods(folder)
    steps = _steps(pods, minutes)
    began = time.monotonic()
    settings = ("--train.steps", str(steps), "--train.checkpoint-every", "500")
    settings += ("--train.checkpoint-minutes", "0.25")
    command = ("train", "tiny.py", *settings, "--out")
    alone = pods.start(*command, LEFT_ALONE)
    kills = _killed_again_and_again(pods, (*command, KILLED), chance)
    took = time.monotonic() - began
    done = alone.end(within=60 * minutes)
    assert done.status == 0, done.said
    left_alone, killed = timeless(folder / LEFT_ALONE), timeless(folder / KILLED)
    return {
        "minutes": round(took / 60, 1),
        "steps": steps,
        "kills": sum(kill["signal"] == "SIGKILL" for kill in kills),
        "sigterms": sum(kill["signal"] == "SIGTERM" for kill in kills),
        "steps_done_again": sum(kill["lost"] for kill in kills),
        "longest_end_seconds": max((kill["seconds_to_end"] for kill in kills), default=None),
        "records": len(killed),
        "equal": left_alone == killed and len(killed) == steps,
    }


def _steps(pods, minutes):
    """How many steps take the killed pod so long, by how many both do in half a minute."""
    runs = [
        pods.start("train", "tiny.py", "--out", name, "--train.steps", "1000000")
        for name in ("pace", "pace_beside")
    ]
    for run in runs:
        run.until("step 10/")
    time.sleep(30)
    for run in runs:
        run.signal(0, KILL)
    for run in runs:
        run.end(within=SOON)
    done = read_metrics(pods.folder / "pace" / "metrics.jsonl")[-1]["step"]
    return int(done / 30 * 60 * minutes * 0.8)  # the rest goes into starting again


def _killed_again_and_again(pods, command, chance):
    """Start the command until it ends by itself; returns every kill."""
    kills = []
    while True:
        running = pods.start(*command)
        until = time.monotonic() + chance.uniform(*PAUSE)
        while time.monotonic() < until and running.processes[0].poll() is None:
            time.sleep(0.2)
        if running.processes[0].poll() is not None:
            done = running.end(within=SOON)
            assert done.statuses == [0, 0], done.logs
            return kills
        index, number = chance.randrange(2), TERM if chance.random() < 0.25 else KILL
        running.signal(index, number)
        began = time.monotonic()
        done = running.end(within=2 * SOON)
        assert 0 not in done.statuses or number == TERM, done.logs
        seconds = round(time.monotonic() - began, 1)
        reached = read_metrics(pods.folder / KILLED / "metrics.jsonl")[-1]["step"]
        saved = max(map(int, _whole(pods.folder / KILLED / "checkpoints")), default=0)
        kills.append(
            {
                "process": index,
                "signal": number.name,
                "seconds_to_end": seconds,
                "step": reached,
                "lost": reached - saved,
            }
        )
        print(json.dumps(kills[-1]), flush=True)


def _whole(checkpoints):
    return [path.name for path in checkpoints.iterdir() if path.name.isdigit()]


if __name__ == "__main__":
    raise SystemExit(main())
