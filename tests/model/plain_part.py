"""A part of attention that writes its logits down: the slow oracle of the kernels."""

import dataclasses

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class PlainPart:
    causal: bool
    window: int | None = None

    def logits(self, q, k, lengths, segments):
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
        y = jnp.einsum("BTKQU,BUKH->BTKQH", weights, v) / total[..., None]
        return y.astype(q.dtype), top + jnp.log(total)

    def backward(self, q, k, v, lengths, segments, y, lse, dy):
        p = jnp.exp(self.logits(q, k, lengths, segments) - lse[..., None])
        dv = jnp.einsum("BTKQU,BTKQH->BUKH", p, dy)
        dp = jnp.einsum("BTKQH,BUKH->BTKQU", dy, v)
        ds = p * (dp - (dy * y).sum(-1)[..., None])
        dq = jnp.einsum("BTKQU,BUKH->BTKQH", ds, k)
        dk = jnp.einsum("BTKQU,BTKQH->BUKH", ds, q)
        return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)
