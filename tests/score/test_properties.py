"""A score hangs on its own text: not on batch, order, neighbours, bucket or devices.

In float32 to 1e-4 of the scores' deviation. In bfloat16 sums of another order round some
activations to the other neighbour, 2^-8 of their size away, and that goes through all layers: so
far, and no farther, may scores differ, whatever else they are computed beside.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rbs_jax.score import grids
from tests.score.tiny import scorer_on

FLOAT32, BFLOAT16 = 1e-4, 0.1
"""Largest difference of two scores of a text, in standard deviations of all scores."""
CHANCE = np.random.default_rng(0)
TEXTS = [
    (
        "abcd ef " * int(CHANCE.integers(0, 4)),
        ["".join(CHANCE.choice(list("abcdefghij "), size=int(n))) for n in (1, 6, 14)],
    )
    for _ in range(6)
]
PAIRS = [(prompt, response) for prompt, own in TEXTS for response in own]
MESHES = [(2, 2, 2), (8, 1, 1), (1, 8, 1)]


def reference(dtype):
    """The score of every pair by itself, and their deviation."""
    scorer = scorer_on(dtype=dtype)
    scores = [scorer.score([prompt], [[response]])[0][0] for prompt, response in PAIRS]
    return dict(zip(PAIRS, scores, strict=True)), float(np.std(scores))


@pytest.fixture(scope="module")
def alone():
    return {dtype: reference(dtype) for dtype in ("float32", "bfloat16")}


@pytest.fixture(scope="module")
def scorers():
    return {dtype: scorer_on(dtype=dtype) for dtype in ("float32", "bfloat16")}


def farthest(scorer, asked, expected):
    """Between the scores of pairs asked for together, by prompt, and those alone."""
    got = scorer.score([p for p, _ in asked], [own for _, own in asked])
    return max(
        (
            abs(score - expected[prompt, response])
            for (prompt, own), scores in zip(asked, got, strict=True)
            for response, score in zip(own, scores, strict=True)
        ),
        default=0.0,
    )


asked = st.lists(
    st.integers(0, len(TEXTS) - 1).flatmap(
        lambda at: st.tuples(
            st.just(TEXTS[at][0]), st.lists(st.sampled_from(TEXTS[at][1]), max_size=2)
        )
    ),
    max_size=6,
)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", FLOAT32), ("bfloat16", BFLOAT16)])
@settings(
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(asked=asked, tokens=st.sampled_from([1, 16_384]))
def test_any_batch_in_any_order_gives_the_scores_alone(
    alone, scorers, monkeypatch, dtype, bound, asked, tokens
):
    monkeypatch.setattr(grids, "TOKENS_PER_CALL", tokens)
    expected, deviation = alone[dtype]
    assert farthest(scorers[dtype], asked, expected) <= bound * deviation


@pytest.mark.parametrize(("dtype", "bound"), [("float32", FLOAT32), ("bfloat16", BFLOAT16)])
@pytest.mark.parametrize("change", ["longer buckets", "one response a row", *map(str, MESHES)])
def test_bucket_sharing_and_devices_change_no_score(alone, monkeypatch, dtype, bound, change):
    expected, deviation = alone[dtype]
    shape = dict(zip(map(str, MESHES), MESHES, strict=True)).get(change, (1, 1, 1))
    texts = TEXTS
    if change == "longer buckets":
        monkeypatch.setattr(grids, "SHORTEST", 64)
    elif change == "one response a row":
        texts = [(prompt, [response]) for prompt, response in PAIRS]
    assert farthest(scorer_on(shape, dtype=dtype), texts, expected) <= bound * deviation
