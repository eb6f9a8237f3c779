"""A part of attention that writes its logits down: the slow oracle of the kernels."""

import dataclasses

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class PlainPart:
    causal: bool
    window: int | None = None

    def logits(self, q, k, lengths, segments):
        q, k = wide(q), wide(k)
        logits = jnp.einsum("BTKQH,BUKH->BTKQU", q, k, precision="highest")
        distance = jnp.arange(q.shape[1])[:, None] - jnp.arange(k.shape[1])
        seen = jnp.ones((q.shape[0], *distance.shape), bool)
        if self.causal:
            seen &= distance >= 0
        if self.window is not None:
            seen &= distance < self.window
        if lengths is not None:
            seen &= jnp.arange(k.shape[1]) < lengths[:, None, None]
        if segments is not None:
            seen &= segments[:, :, None] == segments[:, None]
        return jnp.where(seen[:, :, None, None], logits, -jnp.inf)

    def forward(self, q, k, v, lengths, segments):
        logits = self.logits(q, k, lengths, segments)
        top = logits.max(-1)
        weights = jnp.exp(logits - top[..., None])
        total = weights.sum(-1)
        y = jnp.einsum("BTKQU,BUKH->BTKQH", weights, wide(v)) / total[..., None]
        return y.astype(q.dtype), top + jnp.log(total)

    def backward(self, q, k, v, lengths, segments, y, lse, dy):
        p = jnp.exp(self.logits(q, k, lengths, segments) - lse[..., None])
        dy, y, kinds = wide(dy), wide(y), (q.dtype, k.dtype, v.dtype)
        dv = jnp.einsum("BTKQU,BTKQH->BUKH", p, dy)
        dp = jnp.einsum("BTKQH,BUKH->BTKQU", dy, wide(v))
        ds = p * (dp - (dy * y).sum(-1)[..., None])
        dq = jnp.einsum("BTKQU,BUKH->BTKQH", ds, wide(k))
        dk = jnp.einsum("BTKQU,BTKQH->BUKH", ds, wide(q))
        return tuple(x.astype(kind) for x, kind in zip((dq, dk, dv), kinds, strict=True))


def wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
