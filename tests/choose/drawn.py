"""Scores that properties are tested on."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

INF = np.inf
MODELS, CANDIDATES = st.integers(1, 4), st.integers(1, 6)


def scores(models=MODELS, candidates=CANDIDATES, draws=(), missing=False):
    """Eighths, so that sums are exact, and few of them, so that there are ties."""
    values = st.integers(-12, 12).map(lambda n: n / 8)
    values = values | st.just(-INF) if missing else values
    shapes = st.tuples(models, candidates).map(lambda shape: (*draws, *shape))
    return shapes.flatmap(lambda shape: arrays(float, shape, elements=values))
