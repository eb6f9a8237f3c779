import importlib.util
import json
import subprocess
import sys
from importlib.metadata import version

import pytest

from rbs_jax.experiment import differences
from tests.tpu_aot.golden import CONFIGS, FOLDER

pytestmark = [
    pytest.mark.tpu,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="libtpu is not installed: pip install 'rbs_jax[tpu]'",
    ),
]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_s_shardings_and_collectives_are_golden(name):
    """After a change that is meant to move them: python -m tests.tpu_aot.golden NAME..."""
    expected = json.loads((FOLDER / f"{name}.json").read_text())
    if expected["libtpu"] != version("libtpu"):
        pytest.skip(f"the golden files are of libtpu {expected['libtpu']}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.tpu_aot.golden", "--print", name],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    changed = differences(expected, json.loads(done.stdout))
    assert not changed, "\n".join([*changed, f"\npython -m tests.tpu_aot.golden {name}"])


def test_no_config_copies_an_array_whole_to_every_chip():
    for name in CONFIGS:
        assert json.loads((FOLDER / f"{name}.json").read_text())["copied_whole"] == [], name
