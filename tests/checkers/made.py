"""What several tests of checkers need."""

import sys

import pytest

from rbs_jax.checkers.ifeval import SENTENCES

PARTS = ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab")


@pytest.fixture
def sentences(tmp_path_factory, monkeypatch):
    """NLTK's data, without any abbreviation: a full stop ends a sentence."""
    import nltk

    root = tmp_path_factory.mktemp("nltk")
    folder = root / SENTENCES
    folder.mkdir(parents=True)
    for part in PARTS:
        (folder / part).touch()
    monkeypatch.setenv("NLTK_DATA", str(root))  # for other processes
    monkeypatch.setattr(nltk.data, "path", [str(root)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current one, and no module of it known before or after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
