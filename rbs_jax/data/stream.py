"""step -> GridBatch, a pure function of (seed, step, config)."""

import dataclasses

import grain
import numpy as np

from rbs_jax.data.grid import GridConfig, draw_negatives, make_batch, same_document
from rbs_jax.data.order import Order
from rbs_jax.data.reader import Corpus
from rbs_jax.data.split import Halves, SplitConfig, Splitter
from rbs_jax.errors import UserError
from rbs_jax.shapes import GridBatch


class Stream:
    """The training batches of a corpus, reachable by their step in any order."""

    def __init__(
        self, corpus: Corpus, split_config: SplitConfig, grid: GridConfig, seed: int
    ) -> None:
        """Raises UserError where the corpus is too small for one step or one pair."""
        self._corpus, self._grid, self._seed = corpus, grid, seed
        setting = "--grid.prefixes or --grid.grids-per-step"
        check_fits(corpus, split_config, grid.prefixes * grid.grids_per_step, setting)
        if corpus.manifest.document_count < 2 and grid.same_document == "mask":
            raise UserError(
                f"{corpus.folder}: one document has no negatives, since its own blocks may be "
                "true continuations; cut it into several documents or give "
                "--grid.same-document keep"
            )
        self._split = Splitter(split_config, seed, corpus.tokens())
        self._order = Order(len(corpus), grid, seed)
        self._others = self._order
        if grid.permute_positives:
            anywhere = dataclasses.replace(grid, order="shuffled", same_document="keep")
            self._others = Order(len(corpus), anywhere, seed + 1)
        self.steps_per_epoch = self._order.steps_per_epoch
        self.share_at_sentence_ends: float | None = None
        """Of the first 1,000 blocks; None where breakpoints ask for no sentence."""
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
        batch = make_batch(halves, negatives)
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

    def read(
        self, start: int, stop: int, grids: slice = slice(None)
    ) -> grain.DatasetIterator[GridBatch]:
        """The batches of steps start to stop - 1, fetched ahead of their use.

        Two threads keep a few steps ready: blocks are fetched a whole batch at a
        time, so worker processes have nothing to win.
        """
        steps = grain.MapDataset.range(start, stop).map(lambda step: self.batch(step, grids))
        return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))


def check_fits(corpus: Corpus, split_config: SplitConfig, blocks: int, setting: str) -> None:
    """Whether a corpus has blocks of L1 + L2 ids, and as many as a `setting` asks for.

    Raises:
      UserError: it has not, with the numbers.
    """
    wanted = split_config.tokens_used
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
