"""The vocabulary head on the trunk: next-token logits."""

from flax import nnx
from jaxtyping import Array, Float

from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.layers import normal
from rbs_jax.model.transformer import Transformer
from rbs_jax.sharding import einsum


class VocabularyHead(nnx.Module):
    """Logits over the vocabulary; the embedding table itself where embeddings are tied."""

    def __init__(self, key: Array, config: TransformerConfig) -> None:
        self.weight = None if config.tied_embeddings else normal(key, "VD", config)

    def logits(
        self, trunk: Transformer, x_GPSTD: Float[Array, "G P S T D"]
    ) -> Float[Array, "G P S T V"]:
        """Float32 logits of the token after each position, from the trunk's hidden states."""
        table = trunk.embedding if self.weight is None else self.weight
        return einsum("GPSTD,VD->GPSTV", trunk.normed(x_GPSTD), table[...])
