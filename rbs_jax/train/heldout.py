"""Held-out figures of a reward model, each beside its controls.

Three questions, since topic is not judgement: does the true suffix beat those
of other blocks (in_batch), those of its own document (same_document), and
those that share at least as many words with the prefix (balanced)? In all three,
(i, j) is a pair whenever (j, i) is, so a score of the suffix alone gets one half,
and so does one of the prefix alone where prefixes compete for a suffix. (Balanced
pairs leave word overlap one half at most in that too: of a pair and its mirror, it
cannot win both.)
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rbs_jax.data.grid import make_batch, same_document
from rbs_jax.data.reader import Corpus
from rbs_jax.data.split import SplitConfig, Splitter, wrapped
from rbs_jax.data.stream import check_fits
from rbs_jax.data.template import Template, TemplateConfig, Wrapping
from rbs_jax.data.words import share_in, words_of
from rbs_jax.errors import UserError
from rbs_jax.model.kinds import Model, grid_scores
from rbs_jax.objective import pair_wins, top1_wins
from rbs_jax.shapes import GridBatch, TokenGrid
from rbs_jax.sharding import on_all
from rbs_jax.train.feed import IN_BATCH, place_whole

MEASURES = ("in_batch", "same_document", "balanced")
CONTROLS = ("word_overlap", "longer_suffix", "end_position")
BOOTSTRAP_DRAWS = 2000

Figures = dict[str, dict[str, Any]]
"""measure -> {"pair_accuracy", "ci95", "top1", "top1_ci95", "instruction_accuracy",
"instruction_ci95", "n", "prefixes", "grids"}."""


@dataclasses.dataclass(frozen=True)
class HeldoutConfig:
    """How the held-out figures are measured; the same for every training recipe."""

    candidates: int = 16
    """Prefixes of a held-out grid, and suffixes that each has to choose from."""
    grids: int = 64
    """Grids scored for each figure, at most."""
    breakpoint: Literal["fixed", "random", "sentence"] = "fixed"
    """Where held-out blocks are cut, by split's lengths and reach, whatever training does."""

    def __post_init__(self) -> None:
        if self.candidates < 2 or self.grids < 1:
            raise UserError("heldout.candidates must be at least 2 and heldout.grids at least 1")


class HeldoutGrids(NamedTuple):
    """Grids of a held-out corpus [G, P, S], with what the controls score."""

    batch: GridBatch
    controls: dict[str, np.ndarray]


class Heldout:
    """The grids of a corpus that its held-out figures are measured on.

    In-batch grids hold blocks of the whole corpus in a seeded order; same-document
    grids hold neighbouring blocks, and only pairs that share a document count.
    """

    def __init__(
        self,
        corpus: Corpus,
        split_config: SplitConfig,
        config: HeldoutConfig,
        seed: int,
        template: TemplateConfig | None = None,
    ) -> None:
        """Raises UserError where the corpus has not one grid's blocks."""
        prefixes, grids = config.candidates, config.grids
        split_config = dataclasses.replace(split_config, breakpoint=config.breakpoint)
        check_fits(corpus, split_config.tokens_used, prefixes, "--heldout.candidates")
        count = len(corpus) // prefixes
        chance = np.random.default_rng(seed)
        scattered = chance.permutation(len(corpus))[: count * prefixes].reshape(count, prefixes)
        runs = np.arange(count * prefixes).reshape(count, prefixes)[chance.permutation(count)]
        split = Splitter(split_config, seed, corpus.tokens())
        around = Template(template or TemplateConfig(), corpus.tokens()).wrapping()
        self._grids = {
            "in_batch": _read(corpus, split, around, scattered[:grids]),
            "same_document": _read(corpus, split, around, runs[:grids], within_document=True),
        }
        self._grids["balanced"] = _balanced(self._grids["in_batch"])

    def figures(self, model: Model, mesh: Mesh) -> Figures:
        """The model's figures on all three measures; a language model's rewards are likelihoods."""
        rewards = {
            name: _rewards(model, self._grids[name].batch, mesh)
            for name in ("in_batch", "same_document")
        }
        rewards["balanced"] = rewards["in_batch"]
        return {name: _figure(rewards[name], self._grids[name].batch) for name in MEASURES}

    def summary(self, model: Model, mesh: Mesh) -> dict[str, float]:
        """What is kept with a checkpoint, from the same-document grids alone.

        `same_document` is their pair accuracy (absent without a pair);
        `reward_mean` and `reward_std` are over the rewards of all their prefixes
        and suffixes, to set other scores of the model against.
        """
        grids = self._grids["same_document"].batch
        rewards = _rewards(model, grids, mesh)
        accuracy = _figure(rewards, grids)["pair_accuracy"]
        scale = {"reward_mean": float(rewards.mean()), "reward_std": float(rewards.std())}
        return scale if accuracy is None else {"same_document": accuracy} | scale

    def has_same_document_pairs(self) -> bool:
        """Whether any two of the blocks read come from one document."""
        return bool(self._grids["same_document"].batch.negatives.any())

    def controls(self) -> dict[str, Figures]:
        """The same figures for scores that read no meaning, by control."""
        return {
            control: {
                name: _figure(self._grids[name].controls[control], self._grids[name].batch)
                for name in MEASURES
            }
            for control in CONTROLS
        }


def _read(
    corpus: Corpus,
    split: Splitter,
    around: Wrapping,
    indices: np.ndarray,
    within_document: bool = False,
) -> HeldoutGrids:
    grids, prefixes = indices.shape
    blocks = corpus.read(indices.ravel().tolist())
    halves = split(blocks.tokens, indices.ravel())
    # Same-document pairs are those that training masks out, but for the true ones.
    shared = same_document(blocks.documents, blocks.documents, prefixes)
    negatives = shared if within_document else ~shared
    batch = make_batch(wrapped(halves, around), negatives)
    prefix_ids = zip(halves.prefixes.tolist(), halves.prefix_lengths, strict=True)
    prefix_texts = corpus.tokens().decode([ids[:length] for ids, length in prefix_ids])
    suffix_texts = corpus.tokens().decode(halves.suffixes.tolist())
    lengths = np.array([len(text) for text in suffix_texts], float).reshape(grids, 1, prefixes)
    ends = batch.tokens.prefix_lengths[:, :, None] + batch.tokens.suffix_lengths[:, None, :]
    controls = {
        "word_overlap": word_overlap(prefix_texts, suffix_texts, prefixes),
        "longer_suffix": np.broadcast_to(lengths, batch.negatives.shape),
        # A score that reads lengths alone would prefer texts that end where true ones do.
        "end_position": -np.abs(ends - np.median(np.diagonal(ends, axis1=1, axis2=2))),
    }
    return HeldoutGrids(batch, controls)


def word_overlap(prefixes: list[str], suffixes: list[str], per_grid: int) -> np.ndarray:
    """The share of a suffix's distinct words that occur in the prefix, [G, P, S]; 0 if it has none.

    Words are runs of letters and digits, in lower case.
    """
    before, after = ([words_of(text) for text in texts] for texts in (prefixes, suffixes))
    grids = range(0, len(prefixes), per_grid)
    return np.array(
        [
            [
                [share_in(s, p) for s in after[at : at + per_grid]]
                for p in before[at : at + per_grid]
            ]
            for at in grids
        ]
    )


def _balanced(grids: HeldoutGrids) -> HeldoutGrids:
    """Keep the pairs in which word overlap is tied or points the wrong way, seen from both sides.

    Suffix j stays prefix i's negative only while i is j's. From one side alone, a
    score that never reads the prefix would win by preferring suffixes of rare words.
    """
    overlap = grids.controls["word_overlap"]
    own = np.take_along_axis(overlap, grids.batch.positive[..., None], axis=-1)
    negatives = grids.batch.negatives & (own <= overlap)
    negatives &= negatives.swapaxes(1, 2)
    return grids._replace(batch=grids.batch._replace(negatives=negatives))


@jax.jit
def _grid_scores(model: Model, tokens: TokenGrid) -> jax.Array:
    return on_all(grid_scores(model, tokens))


def _rewards(model: Model, batch: GridBatch, mesh: Mesh) -> np.ndarray:
    """Rewards of all grids, one a data shard at a time; the last call is filled up and cut."""
    count, grids_per_call = len(batch.positive), mesh.shape["data"]
    rewards = []
    for at in range(0, count, grids_per_call):
        rows = np.minimum(np.arange(at, at + grids_per_call), count - 1)
        part = jax.tree.map(lambda x, rows=rows: x[rows], batch)
        placed = place_whole(IN_BATCH, part, mesh, grids_per_call)
        rewards.append(np.asarray(_grid_scores(model, placed.tokens)))
    return np.concatenate(rewards)[:count]


def _figure(scores: np.ndarray, batch: GridBatch) -> dict[str, Any]:
    """Pair accuracy, top-1 and instruction accuracy of scores [G, P, S], with intervals over grids.

    For a prefix i with its true suffix i, scored r_ii, the first asks whether r_ii is above r_ij
    of the negatives (i, j), the last whether it is above r_ji of the negatives (j, i): the response
    and the instruction consistency of arXiv:2309.16155. A tie counts 1/2. All are None for n = 0.
    """
    negatives, valid = batch.negatives, batch.negatives.any(axis=-1)
    r_GPS, positive_GP, negatives_GPS = map(jnp.asarray, (scores, batch.positive, negatives))
    pairs = np.where(negatives, pair_wins(r_GPS, positive_GP), 0)
    tops = np.where(valid, top1_wins(r_GPS, positive_GP, negatives_GPS), 0)
    accuracy, interval = bootstrap(pairs.sum(axis=(1, 2)), negatives.sum(axis=(1, 2)))
    top1, top1_interval = bootstrap(tops.sum(axis=1), valid.sum(axis=1))
    instruction, instruction_interval = bootstrap(*_instruction_wins(scores, batch))
    return {
        "pair_accuracy": accuracy,
        "ci95": interval,
        "top1": top1,
        "top1_ci95": top1_interval,
        "instruction_accuracy": instruction,
        "instruction_ci95": instruction_interval,
        "n": int(negatives.sum()),
        "prefixes": int(valid.sum()),
        "grids": len(negatives),
    }


def _instruction_wins(scores: np.ndarray, batch: GridBatch) -> tuple[np.ndarray, np.ndarray]:
    """Wins of true suffixes after their own prefix over themselves after others, and pairs, [G].

    The others are the prefixes that the suffix is a negative of. Where each suffix is the true one
    of one prefix, and (i, j) is a pair whenever (j, i) is, there are as many pairs as `n`.
    """
    own = batch.positive[:, None, :]  # [g, j, i]: the suffix of prefix i, after prefix j
    after_GIJ = np.take_along_axis(scores, own, axis=2).swapaxes(1, 2)
    pairs_GIJ = np.take_along_axis(batch.negatives, own, axis=2).swapaxes(1, 2)
    itself_GI = np.broadcast_to(np.arange(own.shape[2]), batch.positive.shape)
    wins_GIJ = np.where(pairs_GIJ, pair_wins(jnp.asarray(after_GIJ), jnp.asarray(itself_GI)), 0)
    return wins_GIJ.sum(axis=(1, 2)), pairs_GIJ.sum(axis=(1, 2))


def bootstrap(wins: np.ndarray, counts: np.ndarray) -> tuple[float | None, list[float] | None]:
    """The share of wins, and its 95% interval by resampling grids.

    Pairs of a grid share suffixes, so whole grids are drawn. Grids without any
    pair count for nothing. None where there is nothing to count, and no interval
    from fewer than two grids.

    Args:
      wins: wins in each grid [G].
      counts: pairs of each grid [G].
    """
    wins, counts = wins[counts > 0], counts[counts > 0]
    if not len(counts):
        return None, None
    share = float(wins.sum() / counts.sum())
    if len(counts) < 2:
        return share, None
    draws = np.random.default_rng(0).integers(len(counts), size=(BOOTSTRAP_DRAWS, len(counts)))
    shares = wins[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return share, [float(low), float(high)]
