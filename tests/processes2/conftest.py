"""A tiny run in real processes, which meet as those of a pod do."""

import pytest

from tests.processes2.pods import Pods
from tests.processes2.tiny_run import variables, write_run


@pytest.fixture(scope="session")
def pods(tmp_path_factory):
    """Runs commands in several processes, in a folder that holds tiny.py and its corpora."""
    folder = tmp_path_factory.mktemp("pods")
    write_run(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables(folder).items():
            patch.setenv(name, value)
        patch.chdir(folder)
        yield Pods(folder)


@pytest.fixture(scope="session")
def unbroken(pods):
    """What one process makes of the run, from its first step to its last."""
    done = pods.run("train", "tiny.py", "--out", "unbroken", processes=1)
    assert done.status == 0, done.said
    return pods.folder / "unbroken"


@pytest.fixture(scope="session")
def unbroken_by_two(pods):
    """What two processes make of it."""
    done = pods.run("train", "tiny.py", "--out", "unbroken-by-two")
    assert done.statuses == [0, 0], done.said
    return pods.folder / "unbroken-by-two"
