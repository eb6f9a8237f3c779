"""Calls in order, so many at once, and none that is waited for."""

import threading

import pytest

from rbs_jax.sample.crew import Crew


def test_calls_return_or_raise():
    with Crew(2) as crew:
        good, bad = crew.call(lambda: 3), crew.call(lambda: 1 // 0)
        assert good.result() == 3
        with pytest.raises(ZeroDivisionError):
            bad.result()


def test_calls_are_made_in_order():
    made = []
    with Crew(1) as crew:
        calls = [crew.call(lambda at=at: made.append(at)) for at in range(20)]
        calls[-1].result()
    assert made == list(range(20))


def test_leaving_waits_for_none_and_makes_no_other():
    before, answer, made = threading.active_count(), threading.Event(), []
    with Crew(1) as crew:
        hanging = crew.call(answer.wait)
        crew.call(lambda: made.append(None))
    assert not hanging.done()
    answer.set()
    assert hanging.result()
    while threading.active_count() > before:  # its thread ends
        pass
    assert made == []
