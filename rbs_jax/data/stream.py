"""step -> GridBatch, a pure function of (seed, step, config)."""

import dataclasses

import grain
import numpy as np

from rbs_jax.data.reader import Blocks, Corpus
from rbs_jax.data.split import SplitConfig, split
from rbs_jax.errors import UserError
from rbs_jax.shapes import GridBatch, TokenGrid


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """How many blocks make a grid, and how many grids a step."""

    prefixes: int = 16
    """B: prefixes of a grid, and as many suffixes; every prefix has B - 1 negatives."""
    grids_per_step: int = 1
    """Independent grids of a step; their gradients are averaged."""

    def __post_init__(self) -> None:
        if self.prefixes < 2:
            raise UserError(f"grid.prefixes is {self.prefixes}: a negative needs at least 2")
        if self.grids_per_step < 1:
            raise UserError(f"grid.grids_per_step is {self.grids_per_step}, it must be at least 1")


def make_batch(blocks: Blocks, prefixes: int, split_config: SplitConfig) -> GridBatch:
    """Blocks [G * P] to grids in which every suffix follows every prefix.

    Suffixes of blocks that share a document with a prefix's block are not its
    negatives: they may be true continuations.
    """
    prefix_ids, suffix_ids = split(blocks.tokens, split_config)
    prefixes_GPC = prefix_ids.reshape(-1, prefixes, prefix_ids.shape[-1])
    suffixes_GST = suffix_ids.reshape(-1, prefixes, suffix_ids.shape[-1])
    grids = len(prefixes_GPC)
    tokens = TokenGrid(
        prefixes=prefixes_GPC,
        prefix_lengths=np.full((grids, prefixes), prefix_ids.shape[-1], np.int32),
        suffixes=suffixes_GST,
        suffix_lengths=np.full((grids, prefixes), suffix_ids.shape[-1], np.int32),
    )
    positive_GP = np.tile(np.arange(prefixes, dtype=np.int32), (grids, 1))
    return GridBatch(tokens, positive_GP, ~same_document(blocks.documents, prefixes))


def same_document(documents: np.ndarray, prefixes: int) -> np.ndarray:
    """Which blocks of a grid share a document, [G, P, S]; a block shares its own with itself."""
    first = documents[:, 0].reshape(-1, prefixes)
    last = documents[:, 1].reshape(-1, prefixes)
    return (first[:, :, None] <= last[:, None, :]) & (first[:, None, :] <= last[:, :, None])


class Stream:
    """The training batches of a corpus, reachable by their step in any order.

    An epoch is a fresh permutation of all blocks, cut to whole steps: the few
    that remain sit out that epoch.
    """

    def __init__(
        self, corpus: Corpus, split_config: SplitConfig, grid: GridConfig, seed: int
    ) -> None:
        """Raises UserError where the corpus is too small for one step or one pair."""
        self._corpus, self._split, self._grid = corpus, split_config, grid
        self._per_step = grid.prefixes * grid.grids_per_step
        setting = "--grid.prefixes or --grid.grids-per-step"
        check_fits(corpus, split_config, self._per_step, setting)
        if corpus.manifest.document_count < 2:
            raise UserError(
                f"{corpus.folder}: one document has no negatives, since its own blocks may be "
                "true continuations; cut it into several documents"
            )
        self.steps_per_epoch = len(corpus) // self._per_step
        epoch = grain.MapDataset.range(len(corpus)).seed(seed).shuffle()
        self._order = epoch[: self.steps_per_epoch * self._per_step].repeat()

    def batch(self, step: int, grids: slice = slice(None)) -> GridBatch:
        """The batch of a step, or of the slice of its grids that a host needs."""
        first = step * self._per_step
        rows = range(first, first + self._per_step)
        grid_rows = np.reshape(rows, (self._grid.grids_per_step, self._grid.prefixes))[grids]
        indices = [self._order[int(row)] for row in grid_rows.ravel()]
        return make_batch(self._corpus.read(indices), self._grid.prefixes, self._split)

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
    wanted = split_config.prefix_length + split_config.suffix_length
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
