"""Documents of sources, in two ways: nothing may be left out, or what is left out is counted."""

from rbs_jax.data.documents import LeftOut, read_part
from rbs_jax.data.parts import list_parts
from rbs_jax.data.recipe import Recipe
from rbs_jax.data.sources import find_files


def counted(*sources, strict=False, **recipe):
    """The texts, and what was left out."""
    recipe, left_out = Recipe(**recipe), LeftOut(strict)
    parts = list_parts(find_files(sources), recipe, left_out.broken_file)
    return [d.text for part in parts for d in read_part(part, recipe, left_out)], left_out


def documents(*sources, **recipe):
    """The texts of sources of which every document can be read."""
    return counted(*sources, strict=True, **recipe)[0]
