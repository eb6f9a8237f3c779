"""step -> GridBatch or TokenBlocks, a pure function of (seed, step, config)."""

import dataclasses
from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

import grain
import numpy as np

from rbs_jax.data.grid import GridConfig, draw_negatives, make_batch, same_document
from rbs_jax.data.order import Order
from rbs_jax.data.reader import Corpus
from rbs_jax.data.split import Halves, SplitConfig, Splitter, wrapped
from rbs_jax.data.template import Template, TemplateConfig
from rbs_jax.errors import UserError
from rbs_jax.shapes import GridBatch, TokenBlocks

Batch = TypeVar("Batch", GridBatch, TokenBlocks)
SETTING = "--grid.prefixes or --grid.grids-per-step"
"""What to lower where a corpus is too small for a step."""


class Work(NamedTuple):
    """What one step holds."""

    pairs: int
    """Suffixes scored, each after one prefix."""
    unique_tokens: int
    """Ids of the corpus."""
    tokens: int
    """Ids that run through the model."""
    prefix_length: int
    """Ids of a prefix in its template, without padding, on average; 0 for blocks."""
    suffix_length: int
    """Ids of a suffix in its template, or of a block."""


class Stream(ABC, Generic[Batch]):
    """The training batches of a corpus, reachable by their step in any order."""

    work: Work
    steps_per_epoch: int
    share_at_sentence_ends: float | None = None
    """Of the first 1,000 blocks; None where breakpoints ask for no sentence."""

    @abstractmethod
    def batch(self, step: int, grids: slice = slice(None)) -> Batch:
        """The batch of a step, or of the slice of its grids that a host needs."""

    def read(
        self, start: int, stop: int, grids: slice = slice(None)
    ) -> grain.DatasetIterator[Batch]:
        """The batches of steps start to stop - 1, fetched ahead of their use.

        Two threads keep a few steps ready: blocks are fetched a whole batch at a
        time, so worker processes have nothing to win.
        """
        steps = grain.MapDataset.range(start, stop).map(lambda step: self.batch(step, grids))
        return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))


class BlockStream(Stream[TokenBlocks]):
    """Whole blocks, `prefixes` in each grid, for the language loss."""

    def __init__(self, corpus: Corpus, grid: GridConfig, seed: int) -> None:
        """Raises UserError where the corpus is too small for one step."""
        self._corpus, self._end_id = corpus, corpus.tokens().end_id
        check_fits(
            corpus, corpus.manifest.block_length, grid.prefixes * grid.grids_per_step, SETTING
        )
        self._order = Order(len(corpus), grid, seed)
        self.steps_per_epoch = self._order.steps_per_epoch
        tokens = grid.prefixes * grid.grids_per_step * corpus.manifest.block_length
        self.work = Work(0, tokens, tokens, 0, corpus.manifest.block_length)

    def batch(self, step: int, grids: slice = slice(None)) -> TokenBlocks:
        """The batch of a step, or of the slice of its grids that a host needs."""
        indices = self._order(step)[grids]
        tokens = self._corpus.read(indices.ravel().tolist()).tokens.reshape(*indices.shape, -1)
        ends = np.cumsum(tokens == self._end_id, axis=-1, dtype=np.int32)
        return TokenBlocks(tokens, ends - (tokens == self._end_id))  # an end is its document's


class GridStream(Stream[GridBatch]):
    """Blocks cut in two, as grids."""

    def __init__(
        self,
        corpus: Corpus,
        split_config: SplitConfig,
        grid: GridConfig,
        seed: int,
        template: TemplateConfig | None = None,
    ) -> None:
        """Raises UserError where the corpus is too small for one step or one pair."""
        self._corpus, self._grid, self._seed = corpus, grid, seed
        check_fits(corpus, split_config.tokens_used, grid.prefixes * grid.grids_per_step, SETTING)
        if corpus.manifest.document_count < 2 and grid.same_document == "mask":
            raise UserError(
                f"{corpus.folder}: one document has no negatives, since its own blocks may be "
                "true continuations; cut it into several documents or give "
                "--grid.same-document keep"
            )
        self._split = Splitter(split_config, seed, corpus.tokens())
        self._wrapping = Template(template or TemplateConfig(), corpus.tokens()).wrapping()
        self._order = Order(len(corpus), grid, seed)
        self._others = self._order
        if grid.permute_positives:
            anywhere = dataclasses.replace(grid, order="shuffled", same_document="keep")
            self._others = Order(len(corpus), anywhere, seed + 1)
        self.steps_per_epoch = self._order.steps_per_epoch
        before, between, after = map(len, self._wrapping)
        prefixes = grid.prefixes * grid.grids_per_step
        pairs = prefixes * grid.prefixes
        suffix_length = split_config.suffix_length + after
        padded = before + split_config.longest_prefix + between
        self.work = Work(
            pairs=pairs,
            unique_tokens=prefixes * (split_config.prefix_length + split_config.suffix_length),
            tokens=prefixes * padded + pairs * suffix_length,
            prefix_length=before + split_config.prefix_length + between,
            suffix_length=suffix_length,
        )
        if split_config.breakpoint == "sentence":
            first = self._corpus.read(range(min(len(corpus), 1000)))
            self.share_at_sentence_ends = self._split.share_at_sentence_ends(first.tokens)

    def batch(self, step: int, grids: slice = slice(None)) -> GridBatch:
        """The batch of a step, or of the slice of its grids that a host needs."""
        indices = self._order(step)[grids]
        halves, documents = self._cut(indices)
        if self._grid.permute_positives:
            others = self._others(step)[grids]
            far = (others + len(self._corpus) // 2) % len(self._corpus)
            others = np.where(others == indices, far, others)  # never a block's own
            other_halves, _ = self._cut(others)
            halves = halves._replace(suffixes=other_halves.suffixes)
        shared = same_document(documents, documents, self._grid.prefixes)
        # A permuted positive may share the prefix's document, so then negatives may too.
        masks = self._grid.same_document == "mask" and not self._grid.permute_positives
        negatives = ~shared if masks else np.ones_like(shared)
        batch = make_batch(wrapped(halves, self._wrapping), negatives)
        if self._grid.negatives_per_prefix is None:
            return batch
        numbers = range(self._grid.grids_per_step)[grids]
        seeds = [(self._seed, step, number) for number in numbers]
        drawn = draw_negatives(batch.negatives, self._grid.negatives_per_prefix, seeds)
        return batch._replace(negatives=drawn)

    def _cut(self, indices: np.ndarray) -> tuple[Halves, np.ndarray]:
        """Blocks cut in two, and the first and last document of each."""
        blocks = self._corpus.read(indices.ravel().tolist())
        return self._split(blocks.tokens, indices.ravel()), blocks.documents


def check_fits(corpus: Corpus, wanted: int, blocks: int, setting: str) -> None:
    """Whether a corpus has blocks of `wanted` ids, and as many blocks as a `setting` asks for.

    Raises:
      UserError: it has not, with the numbers.
    """
    length = corpus.manifest.block_length
    if length < wanted:
        raise UserError(
            f"{corpus.folder}: blocks of {length} ids are shorter than prefix + suffix = {wanted}; "
            f"prepare it with --block-length {wanted}"
        )
    if len(corpus) < blocks:
        raise UserError(
            f"{corpus.folder}: {len(corpus)} blocks are fewer than the {blocks} of one batch; "
            f"add text or lower {setting}"
        )
