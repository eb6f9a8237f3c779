"""The floating point operations that a model's work needs, exactly, and no more.

Counted are matrix products, 2 m n k operations for [m, k] by [k, n]; norms, softmax, rotary
positions, the loss and the look-up of embeddings count nothing. A query counts the keys that it
sees, not those that are masked. So this is what is useful, whatever a program computes beside it:
masked logits, padding, or a second forward pass to save memory.
"""

from typing import NamedTuple

from rbs_jax.model.config import TransformerConfig


class Flops(NamedTuple):
    """A forward pass [operations], in parts, since training may not need every gradient of each."""

    first: int
    """The first layer's queries, keys and values: products with the embeddings."""
    layers: int
    """All else of the trunk."""
    head: int

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self)

    def times(self, count: int) -> "Flops":
        """So many of the same."""
        return Flops(*(part * count for part in self))


class GridShape(NamedTuple):
    """Of a grid of text without padding."""

    prefixes: int
    suffixes: int
    """Each of them after every prefix."""
    prefix_length: int
    """[tokens]"""
    suffix_length: int
    """[tokens]"""


class LayerFlops(NamedTuple):
    """One layer, for each position; `key` for each key that a query sees."""

    query: int
    keys_values: int
    output: int
    """Attention's output projection, and the mlp."""
    key: int
    """Its logit, and its value's share of the output."""


def layer_flops(config: TransformerConfig) -> LayerFlops:
    """The products of one layer, from the sizes of its weights."""
    heads, kv_heads = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    return LayerFlops(
        query=2 * config.width * heads,
        keys_values=2 * 2 * config.width * kv_heads,
        output=2 * heads * config.width + 3 * 2 * config.width * config.mlp_width,
        key=2 * 2 * heads,
    )


def keys_seen(start: int, length: int, window: int | None) -> int:
    """Keys seen by the queries at `length` positions from `start`: each its own and those before.

    Of these, the latest `window` alone where there is one.
    """

    def up_to(positions: int) -> int:
        inside = min(positions, window or positions)
        return inside * (inside + 1) // 2 + (positions - inside) * inside

    return up_to(start + length) - up_to(start)


def keys_computed(start: int, length: int, _: int | None) -> int:
    """Keys that they meet where every logit is computed, and masked afterwards."""
    return length * (start + length)


def grid_flops(config: TransformerConfig, shape: GridShape, masked: bool = False) -> Flops:
    """Scoring every suffix of a grid after every prefix, with each prefix encoded once.

    The last layer is needed where it is read: keys and values at all positions, the rest at
    each suffix's last. `masked` counts the keys that are masked, too.
    """
    prefixes, suffixes, context, length = shape
    pairs, layer = prefixes * suffixes, layer_flops(config)
    keys = keys_computed if masked else keys_seen
    positions = prefixes * context + pairs * length
    seen = prefixes * keys(0, context, config.sliding_window)
    seen += pairs * keys(context, length, config.sliding_window)
    whole = positions * (layer.query + layer.keys_values + layer.output) + seen * layer.key
    read = keys(context + length - 1, 1, config.sliding_window)
    last = positions * layer.keys_values
    last += pairs * (layer.query + layer.output + read * layer.key)
    is_last = config.num_layers == 1
    first = (pairs if is_last else positions) * layer.query + positions * layer.keys_values
    trunk = (config.num_layers - 1) * whole + last
    return Flops(first, trunk - first, pairs * 2 * config.width)


def pair_flops(config: TransformerConfig, shape: GridShape) -> Flops:
    """The same scores as code without sharing makes them: each pair a text of its own.

    Every layer runs at every position, and so does the head, as a sequence classifier's does.
    """
    length = shape.prefix_length + shape.suffix_length
    text = _text_flops(config, length, masked=False)
    text = text._replace(head=length * 2 * config.width)
    return text.times(shape.prefixes * shape.suffixes)


def language_flops(config: TransformerConfig, length: int, masked: bool = False) -> Flops:
    """Predicting every token of a packed block but its first.

    Queries are counted as seeing all of the block before them. Documents see only themselves,
    so with several in a block this is above the exact count, by attention's share at most.
    """
    text = _text_flops(config, length, masked)
    return text._replace(head=(length - 1) * 2 * config.width * config.vocab_size)


def _text_flops(config: TransformerConfig, length: int, masked: bool) -> Flops:
    """All layers at all positions of one text, without a head."""
    layer = layer_flops(config)
    keys = (keys_computed if masked else keys_seen)(0, length, config.sliding_window)
    first = length * (layer.query + layer.keys_values)
    whole = first + length * layer.output + keys * layer.key
    return Flops(first, config.num_layers * whole - first, 0)
