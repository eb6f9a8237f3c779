import numpy as np
import pytest

from rbs_jax.data.split import SplitConfig, split
from rbs_jax.errors import UserError


@pytest.mark.parametrize("block_length", [5, 9])
def test_prefix_and_suffix_have_exactly_their_lengths_and_adjoin(block_length):
    tokens = np.arange(3 * block_length).reshape(3, block_length)
    prefixes, suffixes = split(tokens, SplitConfig(prefix_length=2, suffix_length=3))
    assert prefixes.shape == (3, 2)
    assert suffixes.shape == (3, 3)
    np.testing.assert_array_equal(np.hstack([prefixes, suffixes]), tokens[:, :5])


@pytest.mark.parametrize("lengths", [(0, 4), (4, 0)])
def test_an_empty_half_is_refused(lengths):
    with pytest.raises(UserError, match="at least 1"):
        SplitConfig(*lengths)
