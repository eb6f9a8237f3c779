"""rbs_jax: train reward models from raw text, without labels.

A document is cut into a prefix and a suffix; the true suffix should score
above the other suffixes of its batch (arXiv:2603.02225). The way of the data:

    documents -> blocks -> pairs -> grids -> rewards -> loss -> checkpoint -> held-out accuracy

Follow it through data/, model/, objective.py and train/; `rbs --help` is the
command line, and the alphabet of names such as `r_GPS` is in shapes.py.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rbs_jax.score.scorer import Scorer

__all__ = ["Scorer"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "Scorer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rbs_jax.score.scorer import Scorer  # starts jax, which `import rbs_jax` must not

    return Scorer
