"""The users' HLO, for tests of what a compiled program holds and computes; see conftest.py."""

import jax

AS_USED = {"xla_cpu_use_fusion_emitters": True} if jax.config.jax_platforms == "cpu" else {}
"""For compile(). How well machine code is made of the HLO changes no buffer and no product."""
