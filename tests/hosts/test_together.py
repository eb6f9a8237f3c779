from itertools import count

import pytest

from rbs_jax.errors import UserError
from rbs_jax.hosts import together
from rbs_jax.hosts.together import all_say, first_says, refuse_unlike, wait_for_all


def test_one_process_answers_at_once():
    assert first_says(lambda: {"step": 3}) == {"step": 3}
    assert all_say("x") == ["x"]
    wait_for_all()
    assert (together.index(), together.number(), together.is_first()) == (0, 1, True)
    assert together.client() is None


class Service:
    """Keeps what processes say, as jax's does; a key can be set once."""

    def __init__(self):
        self.kept = {}

    def key_value_set(self, key, value):
        assert key not in self.kept
        self.kept[key] = value

    def blocking_key_value_get(self, key, _timeout):
        return self.kept[key]


@pytest.fixture
def service(monkeypatch):
    kept = Service()
    monkeypatch.setattr(together, "client", lambda: kept)
    monkeypatch.setattr(together, "number", lambda: 2)
    return kept


def as_process(monkeypatch, index):
    monkeypatch.setattr(together, "index", lambda: index)
    monkeypatch.setattr(together, "_turns", count())


def test_the_others_hear_what_the_first_says_and_do_not_look_themselves(service, monkeypatch):
    as_process(monkeypatch, 0)
    assert [first_says(lambda: 1), first_says(lambda: [2])] == [1, [2]]
    as_process(monkeypatch, 1)
    asked = pytest.fail
    assert [first_says(lambda: asked("looked")), first_says(lambda: asked("looked"))] == [1, [2]]


@pytest.mark.parametrize("length", [0, 1, together.PIECE - 2, together.PIECE, 3 * together.PIECE])
def test_texts_of_any_length_arrive_whole(service, monkeypatch, length):
    text = "é" * (length // 2)
    as_process(monkeypatch, 0)
    first_says(lambda: text)
    assert all(len(value) <= together.PIECE for value in service.kept.values())
    as_process(monkeypatch, 1)
    assert first_says(lambda: None) == text


def test_all_hear_all_in_their_order(service, monkeypatch):
    as_process(monkeypatch, 1)
    together._say("rbs/all/0/1", "b")
    as_process(monkeypatch, 0)
    assert all_say("a") == ["a", "b"]


def test_what_processes_read_differently_is_refused(monkeypatch):
    refuse_unlike(7, "corpus")
    monkeypatch.setattr(together, "all_say", lambda value: [value, value, 8])
    refuse_unlike(8, "corpus")
    with pytest.raises(UserError, match="corpus: is not the same for process 2 as for process 0"):
        refuse_unlike(7, "corpus")
