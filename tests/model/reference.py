"""A decoder in plain numpy, one text at a time, written from the papers: the slow oracle."""

import numpy as np


def reward(model, ids):
    """The reward of a text, from the weights of a RewardModel, in float64."""
    return float(hidden(model.trunk, ids)[-1] @ to(model.head))


def log_probs(model, ids):
    """The log-probability of each id but the first, from the weights of a LanguageModel."""
    head = model.head.weight
    logits = hidden(model.trunk, ids)[:-1] @ to(model.trunk.embedding if head is None else head).T
    own = logits[np.arange(len(ids) - 1), np.asarray(ids)[1:]]
    return own - np.log(np.exp(logits).sum(-1))


def hidden(trunk, ids):
    """The state at each position behind the final norm."""
    config, blocks = trunk.config, trunk.blocks
    x = to(trunk.embedding)[np.asarray(ids)]
    for layer in range(config.num_layers):
        mlp = blocks.mlp
        h = norm(x, to(blocks.attention_norm)[layer], config.norm_eps)
        x = x + attend(h, blocks.attention, layer, config)
        h = norm(x, to(blocks.mlp_norm)[layer], config.norm_eps)
        gate = h @ to(mlp.gate)[layer]
        x = x + (gate / (1 + np.exp(-gate)) * (h @ to(mlp.up)[layer])) @ to(mlp.down)[layer]
    return norm(x, to(trunk.final_norm), config.norm_eps)


def to(parameter):
    return np.asarray(parameter[...], np.float64)


def attend(h, attention, layer, config):
    length = len(h)
    out = np.zeros((length, config.width))
    per_kv = config.num_heads // config.num_kv_heads
    for head in range(config.num_heads):
        kv, query = divmod(head, per_kv)
        q = h @ to(attention.query)[layer][:, kv, query]
        k = h @ to(attention.key)[layer][:, kv]
        v = h @ to(attention.value)[layer][:, kv]
        if attention.biases is not None:
            q = q + to(attention.biases.query)[layer][kv, query]
            k = k + to(attention.biases.key)[layer][kv]
            v = v + to(attention.biases.value)[layer][kv]
        if attention.norms is not None:
            q = norm(q, to(attention.norms.query)[layer], config.norm_eps)
            k = norm(k, to(attention.norms.key)[layer], config.norm_eps)
        q, k = rope(q, config), rope(k, config)
        for t in range(length):
            seen = range(max(0, t + 1 - (config.sliding_window or length)), t + 1)
            logits = k[seen] @ q[t] / np.sqrt(config.head_dim)
            p = np.exp(logits - logits.max())
            out[t] += (p / p.sum()) @ v[seen] @ to(attention.out)[layer][kv, query]
    return out


def norm(x, scale, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * scale


def rope(x, config):
    half = config.head_dim // 2
    frequency = config.rope_theta ** (-np.arange(half) / half)
    if config.rope_scaling is not None:
        frequency = np.array([stretched(f, config.rope_scaling) for f in frequency])
    angle = np.arange(len(x))[:, None] * frequency
    a, b = x[:, :half], x[:, half:]
    return np.concatenate(
        [a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], 1
    )


def stretched(frequency, scaling):
    """Llama 3.1's rule, by wavelength and in three cases."""
    wavelength = 2 * np.pi / frequency
    if wavelength > scaling.original_positions / scaling.low_freq_factor:
        return frequency / scaling.factor
    if wavelength < scaling.original_positions / scaling.high_freq_factor:
        return frequency
    blend = scaling.original_positions / wavelength - scaling.low_freq_factor
    blend /= scaling.high_freq_factor - scaling.low_freq_factor
    return (1 - blend) * frequency / scaling.factor + blend * frequency
