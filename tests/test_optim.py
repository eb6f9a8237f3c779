import pytest

from rbs_jax.errors import UserError
from rbs_jax.optim import OptimConfig, learning_rate


def test_warms_up_from_zero_then_stays():
    rate = learning_rate(OptimConfig(learning_rate=0.4, warmup_steps=4), steps=100)
    assert [float(rate(step)) for step in (0, 1, 2, 4, 50)] == pytest.approx(
        [0, 0.1, 0.2, 0.4, 0.4]
    )


def test_cosine_ends_at_a_tenth_after_the_last_step():
    rate = learning_rate(OptimConfig(0.4, warmup_steps=10, schedule="cosine"), steps=110)
    assert [float(rate(step)) for step in (10, 60, 110)] == pytest.approx([0.4, 0.22, 0.04])


def test_no_warmup_starts_at_the_peak():
    assert float(learning_rate(OptimConfig(0.4, warmup_steps=0), steps=10)(0)) == pytest.approx(0.4)


@pytest.mark.parametrize(
    "wrong", [{"learning_rate": -1.0}, {"beta1": 1.0}, {"warmup_steps": -1}, {"clip_norm": 0.0}]
)
def test_a_setting_out_of_range_is_named(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        OptimConfig(**wrong)
