import dataclasses

import jax
import numpy as np
import pytest

from rbs_jax.data.reader import Corpus
from rbs_jax.data.split import SplitConfig
from rbs_jax.errors import UserError
from rbs_jax.model.reward import init_reward_model
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.heldout import (
    MEASURES,
    Heldout,
    HeldoutConfig,
    _figure,
    bootstrap,
    word_overlap,
)
from tests.tiny import TINY

SPLIT = SplitConfig(8, 8)


@pytest.fixture
def heldout(corpora):
    return Heldout(Corpus(corpora / "train"), SPLIT, HeldoutConfig(4, 30), seed=0)


def test_word_overlap_by_hand():
    prefixes = ["The cat sat", "no words shared"]
    suffixes = ["a CAT, the cat!", "..."]
    np.testing.assert_allclose(
        word_overlap(prefixes, suffixes, 2), [[[2 / 3, 0], [0, 0]]]
    )  # of {a, cat, the}, two are in the first prefix


def test_bootstrap_counts_pairs_and_draws_grids():
    share, interval = bootstrap(np.array([3.0, 1.0, 0.0]), np.array([4, 2, 0]))
    assert share == pytest.approx(4 / 6)
    assert interval == [pytest.approx(1 / 2), pytest.approx(3 / 4)]
    assert bootstrap(np.zeros(2), np.zeros(2, int)) == (None, None)
    assert bootstrap(np.array([1.0]), np.array([2])) == (0.5, None)


def test_bootstrap_interval_covers_the_truth():
    """Of intervals from coin tosses, about 95% hold the coin's bias."""
    chance = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        _, (low, high) = bootstrap(chance.binomial(10, 0.7, size=60).astype(float), np.full(60, 10))
        covered += low <= 0.7 <= high
    assert 180 <= covered <= 199


def test_measures_ask_about_the_pairs_they_name(heldout):
    grids = heldout._grids
    batch = grids["same_document"].batch
    off_diagonal = ~np.eye(4, dtype=bool)
    assert batch.negatives.any()
    assert not (batch.negatives & ~off_diagonal).any()
    overlap = grids["balanced"].controls["word_overlap"]
    own = np.diagonal(overlap, axis1=1, axis2=2)[..., None]
    kept = grids["balanced"].batch.negatives
    assert kept.any()
    assert (own <= overlap)[kept].all()
    dropped = grids["in_batch"].batch.negatives & ~kept
    against = own > overlap
    assert (against | against.swapaxes(1, 2))[dropped].all()


def test_a_score_that_reads_no_prefix_gets_one_half_of_every_measure(heldout):
    """In grids of any composition: what it wins of a pair it loses of the mirrored one."""
    for name in MEASURES:
        batch = heldout._grids[name].batch
        of_suffix = np.random.default_rng(0).normal(size=(len(batch.negatives), 1, 4))
        figure = _figure(np.broadcast_to(of_suffix, batch.negatives.shape), batch)
        assert figure["pair_accuracy"] == pytest.approx(0.5)


def test_in_batch_and_same_document_pairs_share_none_and_some_document(corpora):
    corpus = Corpus(corpora / "train")
    heldout = Heldout(corpus, SPLIT, HeldoutConfig(4, 1000), seed=0)
    count = len(corpus) // 4
    blocks = corpus.read(range(len(corpus)))
    rows = {block.tobytes(): set(range(a, b + 1)) for block, (a, b) in zip(*blocks, strict=True)}
    for name, shared in (("in_batch", False), ("same_document", True)):
        tokens, negatives = heldout._grids[name].batch.tokens, heldout._grids[name].batch.negatives
        assert len(negatives) == count
        for g, p, s in np.argwhere(negatives):
            ids = [np.concatenate([tokens.prefixes[g, i], tokens.suffixes[g, i]]) for i in (p, s)]
            documents = [rows[i.astype(np.int32).tobytes()] for i in ids]
            assert bool(documents[0] & documents[1]) is shared


def test_controls_say_what_they_must(heldout):
    controls = heldout.controls()
    for name in MEASURES:
        assert controls["end_position"][name]["pair_accuracy"] == 0.5
    assert controls["word_overlap"]["balanced"]["pair_accuracy"] <= 0.5
    assert controls["word_overlap"]["in_batch"]["pair_accuracy"] > 0.6


def test_figures_do_not_depend_on_how_many_grids_are_scored_at_once(corpora):
    """30 grids go one by one on one data shard, and by fours, filled up, on four."""
    heldout = Heldout(Corpus(corpora / "train"), SPLIT, HeldoutConfig(4, 30), seed=0)
    figures = []
    for shape in ((1, 1, 1), (4, 1, 1)):
        mesh = make_mesh(MeshConfig(*shape))
        with jax.set_mesh(mesh):
            config = dataclasses.replace(TINY, vocab_size=300)
            figures.append(heldout.figures(init_reward_model(jax.random.key(0), config), mesh))
    assert figures[0] == figures[1]


def test_a_corpus_smaller_than_a_grid_is_refused(corpora):
    with pytest.raises(UserError, match="fewer than the 100000"):
        Heldout(Corpus(corpora / "test"), SPLIT, HeldoutConfig(100_000), seed=0)
