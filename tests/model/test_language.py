import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.model.language import VocabularyHead
from rbs_jax.model.transformer import Transformer
from tests.tiny import TINY


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_products_with_the_embedding_or_with_a_table_of_their_own(mesh, tied):
    config = dataclasses.replace(TINY, tied_embeddings=tied)
    trunk = jax.jit(Transformer, static_argnums=1)(jax.random.key(0), config)
    head = jax.jit(VocabularyHead, static_argnums=1)(jax.random.key(1), config)
    hidden, _ = trunk(trunk.embed("GPST", jnp.arange(5)[None, None, None]), jnp.zeros((1, 1), int))
    table = trunk.embedding if tied else head.weight
    expected = np.asarray(trunk.normed(hidden)) @ np.asarray(table[...]).T
    np.testing.assert_allclose(head.logits(trunk, hidden), expected, rtol=1e-4, atol=1e-6)
    assert len(jax.tree.leaves(head)) == (0 if tied else 1)
