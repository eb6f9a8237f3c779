"""From documents to grids of token ids: numpy, grain and TFDS, never jax."""
