import numpy as np
import pytest

from rbs_jax.bon.overoptimised import kl_upper_bound, laws
from rbs_jax.statistics.figures import Group

NS = [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("n", "nats"), [(1, 0), (2, 0.193), (4, 0.636), (8, 1.204), (16, 1.835), (32, 2.497)]
)
def test_the_bound_is_the_published_one(n, nats):
    assert kl_upper_bound(n) == pytest.approx(nats, abs=1e-3)


def made(law, noise=0.0, prompts=400, seed=0):
    """Gains of prompts that follow a law on average."""
    chance = np.random.default_rng(seed)
    groups = {}
    for n in NS:
        d = np.sqrt(kl_upper_bound(n))
        values = (0 if n == 1 else law(d)) + noise * chance.normal(size=prompts)
        groups[str(n)] = Group(values, [str(at) for at in range(prompts)])
    return groups


def test_the_law_of_best_of_n_is_found_again():
    found = laws(NS, made(lambda d: d * (2 - 0.7 * d)))
    fit = found["best_of_n"]
    assert found["points"] == 5
    assert (fit["alpha"], fit["beta"]) == pytest.approx((2, 0.7))
    assert fit["residual"] == pytest.approx(0, abs=1e-9)
    assert fit["peak"] == pytest.approx(2 / 1.4)
    assert found["rl"]["residual"] > 0.01
    assert "peak" not in found["rl"]


def test_the_law_of_rl_is_found_again():
    found = laws(NS, made(lambda d: d * (2 - 0.7 * np.log(d))))
    assert (found["rl"]["alpha"], found["rl"]["beta"]) == pytest.approx((2, 0.7))
    assert found["best_of_n"]["residual"] > 0.01


def test_intervals_hold_what_is_so_and_narrow_with_prompts():
    def fit(prompts, seed=0):
        groups = made(lambda d: d * (2 - 0.7 * d), 0.5, prompts, seed)
        return laws(NS, groups)["best_of_n"]

    held = [
        low < value < high
        for seed in range(40)
        for name, value in (("alpha", 2), ("beta", 0.7))
        for low, high in [fit(100, seed)[f"{name}_ci95"]]
    ]
    assert 0.85 < np.mean(held) < 1  # 95% of them, about

    wide, narrow = (np.diff(fit(prompts)["alpha_ci95"]).item() for prompts in (100, 1600))
    assert narrow == pytest.approx(wide / 4, rel=0.3)


def test_a_gain_that_never_falls_has_no_peak():
    assert laws(NS, made(lambda d: d * (1 + 0.1 * d)))["best_of_n"]["peak"] is None


@pytest.mark.parametrize("ns", [[1], [1, 2]])
def test_two_points_at_least_make_a_law(ns):
    groups = made(lambda d: d)
    assert laws(ns, {str(n): groups[str(n)] for n in ns}) is None


def test_one_prompt_has_no_interval():
    fit = laws(NS, made(lambda d: d, prompts=1))["rl"]
    assert fit["alpha_ci95"] is None
