"""Made pools of candidates."""

import numpy as np

from rbs_jax.bon.candidates import Known, Pool


def pool(scores, correct=None, name=0, controls=None, heads=None, texts=None, **known):
    """A pool whose prompt is a number, of texts that differ; lists become arrays where need be."""
    scores = np.atleast_2d(np.array(scores, float))
    count = scores.shape[1]
    arrays = {
        key: np.array(own, float) if key in ("gold", "logprob") else own
        for key, own in known.items()
    }
    correct = None if correct is None else np.array(correct, float)
    heads = (
        [np.zeros(scores.shape)]
        if heads is None
        else [np.atleast_2d(np.array(h, float)) for h in heads]
    )
    controls = {"longer": np.zeros(count)} if controls is None else controls
    controls = {key: np.array(own, float) for key, own in controls.items()}
    prompt, texts = (
        f"{name:016x}",
        [f"{at:016x}" for at in range(count)] if texts is None else texts,
    )
    return Pool(str(name), prompt, texts, scores, controls, heads, Known(correct, **arrays))


def random_pools(count, most, seed=0, **known):
    """Pools of `most` candidates with random scores, of which each is right with chance 0.4."""
    chance = np.random.default_rng(seed)
    return [
        pool(
            chance.normal(size=most),
            chance.random(most) < 0.4,
            at,
            {"longer": chance.normal(size=most)},
            [chance.normal(size=most) for _ in range(2)],
            **{key: own(chance, most) for key, own in known.items()},
        )
        for at in range(count)
    ]
