import os
import signal

from rbs_jax.hosts.notice import Notice


def test_sigterm_is_heard_once_and_a_second_would_end_the_process():
    before = signal.getsignal(signal.SIGTERM)
    with Notice() as notice:
        assert not notice.reached(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert notice.reached(2)
        assert notice.reached(3)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before


def test_without_a_notice_nothing_is_changed():
    before = signal.getsignal(signal.SIGTERM)
    with Notice():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
