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
    begun, answer, made = threading.Event(), threading.Event(), []

    def hang():
        begun.set()
        made.append(threading.current_thread())
        return answer.wait(60)

    with Crew(1) as crew:
        hanging = crew.call(hang)
        crew.call(lambda: made.append(None))
        begun.wait(60)
    assert not hanging.done()
    answer.set()
    assert hanging.result(60)
    made[0].join(60)
    assert not made[0].is_alive()
    assert len(made) == 1
