"""step -> GridBatch or TokenBlocks, a pure function of (seed, step, config)."""

import dataclasses
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import grain
import numpy as np

from rbs_jax.data.grid import GridConfig, draw_negatives, make_batch, same_document
from rbs_jax.data.mixture import Drawn, Mixture, turns
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
    """The training batches of corpora, reachable by their step in any order."""

    work: Work
    steps_per_epoch: int
    share_at_sentence_ends: float | None = None
    """Of the first 1,000 blocks of each corpus; None where breakpoints ask for no sentence."""

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

    def __init__(
        self,
        corpora: Sequence[Corpus],
        grid: GridConfig,
        seed: int,
        weights: Sequence[float] = (),
    ) -> None:
        """Raises UserError where a corpus is too small, or their blocks differ in length."""
        self._corpora, self._end_id = corpora, corpora[0].tokens().end_id
        length = corpora[0].manifest.block_length
        for corpus in corpora:
            if corpus.manifest.block_length != length:
                raise UserError(
                    f"{corpus.folder}: blocks of {corpus.manifest.block_length} ids, those of "
                    f"{corpora[0].folder} have {length}; prepare it with --block-length {length}"
                )
        _check_training(corpora, length, grid)
        shards = [corpus.shard_blocks for corpus in corpora]
        self._mixture = Mixture(shards, weights, grid, seed)
        self.steps_per_epoch = self._mixture.steps_per_epoch
        tokens = grid.prefixes * grid.grids_per_step * length
        self.work = Work(0, tokens, tokens, 0, length)

    def batch(self, step: int, grids: slice = slice(None)) -> TokenBlocks:
        """The batch of a step, or of the slice of its grids that a host needs."""
        drawn = self._mixture(step, grids)
        tokens = np.empty((*drawn.blocks.shape, self.work.suffix_length), np.int32)
        for corpus, rows in _by_corpus(drawn):
            blocks = self._corpora[corpus].read(drawn.blocks[rows].ravel().tolist())
            tokens[rows] = blocks.tokens.reshape(len(rows), -1, tokens.shape[-1])
        ends = np.cumsum(tokens == self._end_id, axis=-1, dtype=np.int32)
        return TokenBlocks(tokens, ends - (tokens == self._end_id))  # an end is its document's


class GridStream(Stream[GridBatch]):
    """Blocks cut in two, as grids, each of one corpus: negatives are of the positive's kind."""

    def __init__(
        self,
        corpora: Sequence[Corpus],
        split_config: SplitConfig,
        grid: GridConfig,
        seed: int,
        template: TemplateConfig | None = None,
        weights: Sequence[float] = (),
    ) -> None:
        """Raises UserError where a corpus is too small for one step or one pair."""
        self._corpora, self._grid, self._seed = corpora, grid, seed
        _check_training(corpora, split_config.tokens_used, grid)
        for corpus in corpora:
            if corpus.manifest.document_count < 2 and grid.same_document == "mask":
                raise UserError(
                    f"{corpus.folder}: one document has no negatives, since its own blocks may be "
                    "true continuations; cut it into several documents or give "
                    "--grid.same-document keep"
                )
        self._split = Splitter(split_config, seed, corpora[0].tokens())
        self._wrapping = Template(template or TemplateConfig(), corpora[0].tokens()).wrapping()
        shards = [corpus.shard_blocks for corpus in corpora]
        self._mixture = Mixture(shards, weights, grid, seed)
        self._others = self._mixture
        if grid.permute_positives:
            anywhere = dataclasses.replace(grid, same_document="keep")
            if grid.order == "corpus":
                anywhere = dataclasses.replace(anywhere, order="shuffled")
            self._others = Mixture(shards, weights, anywhere, seed + 1)
        self.steps_per_epoch = self._mixture.steps_per_epoch
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
            first = [corpus.read(range(min(len(corpus), 1000))).tokens for corpus in corpora]
            shares = np.array([self._split.share_at_sentence_ends(ids) for ids in first], float)
            counts = turns([*map(len, corpora)], weights)
            self.share_at_sentence_ends = float(np.average(shares, weights=counts))

    def batch(self, step: int, grids: slice = slice(None)) -> GridBatch:
        """The batch of a step, or of the slice of its grids that a host needs."""
        drawn = self._mixture(step, grids)
        halves, documents = self._cut(drawn)
        if self._grid.permute_positives:
            others = self._others(step, grids).blocks  # corpora take the same turns
            sizes = np.array([len(corpus) for corpus in self._corpora])[drawn.corpora][:, None]
            far = (others + sizes // 2) % sizes
            others = np.where(others == drawn.blocks, far, others)  # never a block's own
            other_halves, _ = self._cut(Drawn(drawn.corpora, others))
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
        drawn_negatives = draw_negatives(batch.negatives, self._grid.negatives_per_prefix, seeds)
        return batch._replace(negatives=drawn_negatives)

    def _cut(self, drawn: Drawn) -> tuple[Halves, np.ndarray]:
        """Blocks cut in two, and the first and last document of each, in the order drawn."""
        cut, places = [], []
        for corpus, rows in _by_corpus(drawn):
            indices = drawn.blocks[rows].ravel()
            blocks = self._corpora[corpus].read(indices.tolist())
            cut.append((*self._split(blocks.tokens, indices), blocks.documents))
            places.append(rows[:, None] * self._grid.prefixes + np.arange(self._grid.prefixes))
        back = np.argsort(np.concatenate(places).ravel())
        *halves, documents = [np.concatenate(parts)[back] for parts in zip(*cut, strict=True)]
        return Halves(*halves), documents


def _by_corpus(drawn: Drawn) -> list[tuple[int, np.ndarray]]:
    """Each corpus with the places of its grids."""
    there = np.unique(drawn.corpora).tolist()
    return [(corpus, np.flatnonzero(drawn.corpora == corpus)) for corpus in there]


def _check_training(corpora: Sequence[Corpus], wanted: int, grid: GridConfig) -> None:
    """Whether corpora have blocks of `wanted` ids and enough of them.

    Raises:
      UserError: one has not.
    """
    for corpus in corpora:
        if len(corpora) == 1:
            check_fits(corpus, wanted, grid.prefixes * grid.grids_per_step, SETTING)
        else:
            check_fits(corpus, wanted, grid.prefixes, "--grid.prefixes")
        if corpus.exceeds_cache and grid.order == "shuffled":
            print(
                f"rbs: {corpus.folder}: {corpus.bytes / 1e9:.2g} GB are more than the cache holds, "
                "so shuffled blocks are fetched again and again; give --grid.order windows, or "
                "more --data.cache-gigabytes",
                file=sys.stderr,
            )


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
