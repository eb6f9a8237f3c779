import dataclasses
import re

import jax
import numpy as np
import pytest

from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.grid import make_batch
from rbs_jax.data.reader import Corpus
from rbs_jax.data.split import SplitConfig
from rbs_jax.data.template import Template, TemplateConfig
from rbs_jax.data.tokens import train_tokens
from rbs_jax.errors import UserError
from rbs_jax.model.kinds import fresh
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.reward import RewardModel
from rbs_jax.shapes import GridBatch
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train import heldout as module
from rbs_jax.train.heldout import (
    MEASURES,
    Heldout,
    HeldoutConfig,
    _figure,
    bootstrap,
    word_overlap,
)
from tests.model.noise import noisy
from tests.model.reference import log_probs, reward
from tests.tiny import TINY, made_up_documents

SPLIT = SplitConfig(8, 8)
MOVED = SplitConfig(6, 6, reach=4)
"""Blocks of 16 ids just hold it."""


@pytest.fixture
def heldout(corpora):
    return Heldout(Corpus(corpora / "train"), SPLIT, HeldoutConfig(4, 30), seed=0)


@pytest.fixture(scope="module")
def prose(tmp_path_factory):
    """A corpus of sentences of three made-up words, in blocks of 16 ids."""
    texts = [re.sub(r"((?:\w+ ){2}\w+)", r"\1.", text) for text in made_up_documents(80)]
    folder = tmp_path_factory.mktemp("prose") / "test"
    write_corpus(texts, folder, train_tokens(texts, 300), 16, {})
    return Corpus(folder)


@pytest.fixture
def model(mesh):
    return fresh(RewardModel, 0, dataclasses.replace(TINY, vocab_size=300))


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


def test_a_score_that_reads_no_suffix_gets_one_half_where_prefixes_compete(heldout):
    for name in MEASURES:
        batch = heldout._grids[name].batch
        of_prefix = np.random.default_rng(0).normal(size=(len(batch.negatives), 4, 1))
        figure = _figure(np.broadcast_to(of_prefix, batch.negatives.shape), batch)
        assert figure["instruction_accuracy"] == pytest.approx(0.5)
        assert figure["instruction_ci95"][0] <= 0.5 <= figure["instruction_ci95"][1]


def grid_of(positive, negatives):
    return GridBatch(None, np.array(positive, np.int32), np.array(negatives, bool))


def test_rows_ask_which_suffix_and_columns_ask_which_prefix():
    scores = np.array([[[2.0, 3, 0], [2, 4, 9], [1, 4, 5]]])
    figure = _figure(scores, grid_of([[0, 1, 2]], [~np.eye(3, dtype=bool)]))
    assert figure["pair_accuracy"] == pytest.approx((0 + 1 + 1 + 0 + 1 + 1) / 6)
    # 2 after the others: 2, 1; 4: 3, 4; 5: 0, 9
    assert figure["instruction_accuracy"] == pytest.approx((0.5 + 1 + 1 + 0.5 + 1 + 0) / 6)
    assert figure["instruction_ci95"] is None, "of one grid"


def test_only_prefixes_that_a_suffix_is_a_negative_of_compete_for_it():
    scores = np.array([[[2.0, 3, 0], [1, 4, 9], [3, 4, 5]]])
    negatives = np.zeros((1, 3, 3), bool)
    negatives[0, 1, 0] = negatives[0, 2, 1] = True  # 2 above 1; 4 beside 4
    figure = _figure(scores, grid_of([[0, 1, 2]], negatives))
    assert figure["instruction_accuracy"] == pytest.approx((1 + 0.5) / 2)
    none = _figure(scores, grid_of([[0, 1, 2]], np.zeros((1, 3, 3))))
    assert (none["instruction_accuracy"], none["instruction_ci95"]) == (None, None)


def test_true_suffixes_need_not_stand_on_the_diagonal():
    """The same grid with its columns in another order has the same figures."""
    chance = np.random.default_rng(0)
    scores = chance.integers(0, 5, size=(6, 4, 4)).astype(float)
    negatives = (chance.random((6, 4, 4)) < 0.7) & ~np.eye(4, dtype=bool)
    order = np.array([2, 0, 3, 1])  # column c holds suffix order[c]
    plain = _figure(scores, grid_of([[0, 1, 2, 3]] * 6, negatives))
    moved = grid_of([np.argsort(order)] * 6, negatives[..., order])
    assert _figure(scores[..., order], moved) == plain


def test_columns_are_the_rows_of_the_grid_turned_round():
    chance = np.random.default_rng(0)
    scores, negatives = chance.normal(size=(6, 4, 4)), ~np.eye(4, dtype=bool)[None].repeat(6, 0)
    batch = grid_of([[0, 1, 2, 3]] * 6, negatives)
    figure, turned = _figure(scores, batch), _figure(scores.swapaxes(1, 2), batch)
    for by_column, by_row in (
        ("instruction_accuracy", "pair_accuracy"),
        ("instruction_ci95", "ci95"),
    ):
        assert figure[by_column] == turned[by_row]
        assert figure[by_row] == turned[by_column]


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
    for accuracy in ("pair_accuracy", "instruction_accuracy"):
        assert controls["word_overlap"]["balanced"][accuracy] <= 0.5
        assert controls["longer_suffix"]["in_batch"][accuracy] == 0.5
    assert controls["word_overlap"]["in_batch"]["pair_accuracy"] > 0.6


@pytest.mark.parametrize("breakpoint_", ["fixed", "random", "sentence"])
def test_lengths_alone_retrieve_nothing(prose, breakpoint_):
    heldout = Heldout(prose, MOVED, HeldoutConfig(8, 60, breakpoint_), seed=0)
    batch = heldout._grids["in_batch"].batch
    assert (len(np.unique(batch.tokens.prefix_lengths)) > 1) is (breakpoint_ != "fixed")
    negatives = batch.negatives.sum(axis=-1)
    chance = (1 / (1 + negatives[negatives > 0])).mean()
    figure = heldout.controls()["end_position"]["in_batch"]
    assert figure["pair_accuracy"] == 0.5
    assert figure["top1"] == pytest.approx(chance)


@pytest.mark.parametrize("breakpoint_", ["random", "sentence"])
def test_suffixes_that_filled_up_their_blocks_would_give_themselves_away(
    prose, breakpoint_, monkeypatch
):
    def to_the_end(halves, negatives):
        batch = make_batch(halves, negatives)
        lengths = 16 - batch.tokens.prefix_lengths
        return batch._replace(tokens=batch.tokens._replace(suffix_lengths=lengths))

    monkeypatch.setattr(module, "make_batch", to_the_end)
    heldout = Heldout(prose, MOVED, HeldoutConfig(8, 60, breakpoint_), seed=0)
    given_away = heldout.controls()["end_position"]["in_batch"]
    assert given_away["pair_accuracy"] > 0.8
    assert given_away["top1"] > 0.4


def test_heldout_blocks_are_cut_as_its_own_config_says_whatever_training_does(corpora):
    corpus, trained = Corpus(corpora / "train"), dataclasses.replace(MOVED, breakpoint="random")
    for breakpoint_, lengths in (("fixed", {6}), ("random", set(range(2, 11)))):
        heldout = Heldout(corpus, trained, HeldoutConfig(4, 60, breakpoint_), seed=0)
        for name in MEASURES:
            tokens = heldout._grids[name].batch.tokens
            assert set(tokens.prefix_lengths.ravel().tolist()) == lengths


def test_a_summary_has_the_same_document_accuracy_and_the_scale_of_all_rewards(
    heldout, model, mesh, monkeypatch
):
    asked = []

    def true_ones_score_one(model, batch, mesh):
        asked.append(batch)
        return np.broadcast_to(np.eye(4), batch.negatives.shape)

    monkeypatch.setattr(module, "_rewards", true_ones_score_one)
    assert heldout.summary(model, mesh) == {
        "same_document": 1.0,
        "reward_mean": pytest.approx(1 / 4),
        "reward_std": pytest.approx(np.sqrt(1 / 4 * 3 / 4)),
    }
    (batch,) = asked
    assert batch is heldout._grids["same_document"].batch
    assert heldout.has_same_document_pairs()


def test_a_summary_is_that_of_the_figures(heldout, model, mesh):
    summary = heldout.summary(model, mesh)
    accuracy = heldout.figures(model, mesh)["same_document"]["pair_accuracy"]
    assert summary["same_document"] == accuracy
    assert summary["reward_std"] > 0


def test_without_a_same_document_pair_a_summary_has_the_scale_alone(
    tmp_path, model, mesh, monkeypatch
):
    texts = [letter * 15 for letter in "abcdefgh"]
    write_corpus(texts, tmp_path / "apart", train_tokens(texts, 258), 16, {})
    apart = Heldout(Corpus(tmp_path / "apart"), SPLIT, HeldoutConfig(4), seed=0)
    rewards = np.arange(2 * 16).reshape(2, 4, 4).astype(np.float32)
    monkeypatch.setattr(module, "_rewards", lambda *_: rewards)
    assert apart.summary(model, mesh) == {
        "reward_mean": pytest.approx(31 / 2),
        "reward_std": pytest.approx(np.sqrt((32**2 - 1) / 12)),
    }
    assert not apart.has_same_document_pairs()


def test_figures_do_not_depend_on_how_many_grids_are_scored_at_once(corpora):
    """30 grids go one by one on one data shard, and by fours, filled up, on four."""
    heldout = Heldout(Corpus(corpora / "train"), SPLIT, HeldoutConfig(4, 30), seed=0)
    figures = []
    for shape in ((1, 1, 1), (4, 1, 1)):
        mesh = make_mesh(MeshConfig(*shape))
        with jax.set_mesh(mesh):
            config = dataclasses.replace(TINY, vocab_size=300)
            figures.append(heldout.figures(fresh(RewardModel, 0, config), mesh))
    assert figures[0] == figures[1]


def test_a_corpus_smaller_than_a_grid_is_refused(corpora):
    with pytest.raises(UserError, match="fewer than the 100000"):
        Heldout(Corpus(corpora / "test"), SPLIT, HeldoutConfig(100_000), seed=0)


TINY_300 = dataclasses.replace(TINY, vocab_size=300)
HUMAN_ASSISTANT = TemplateConfig("human_assistant")


def texts_of(batch):
    """The place of each pair [g, p, s], the ids of its prefix, and those of its suffix."""
    tokens = batch.tokens
    for g, p, s in np.ndindex(batch.negatives.shape):
        prefix = tokens.prefixes[g, p][: tokens.prefix_lengths[g, p]]
        yield (g, p, s), [*prefix], [*tokens.suffixes[g, s][: tokens.suffix_lengths[g, s]]]


def test_a_language_models_figures_are_those_of_mean_log_probabilities(corpora, mesh):
    heldout = Heldout(Corpus(corpora / "train"), SPLIT, HeldoutConfig(4, 5), seed=0)
    model = noisy(LanguageModel, TINY_300)
    figures = heldout.figures(model, mesh)
    for name in MEASURES:
        batch = heldout._grids[name].batch
        likelihoods = np.zeros(batch.negatives.shape)
        for at, prefix, suffix in texts_of(batch):
            likelihoods[at] = log_probs(model, prefix + suffix)[-len(suffix) :].mean()
        assert figures[name] == _figure(likelihoods, batch)
    assert heldout.summary(model, mesh)["reward_mean"] < 0


def test_likelihoods_do_not_depend_on_the_mesh(corpora):
    heldout = Heldout(Corpus(corpora / "train"), SPLIT, HeldoutConfig(4, 6), seed=0)
    batch, likelihoods = heldout._grids["in_batch"].batch, []
    for shape in ((1, 1, 1), (2, 2, 2)):
        mesh = make_mesh(MeshConfig(*shape))
        with jax.set_mesh(mesh):
            likelihoods.append(module._rewards(noisy(LanguageModel, TINY_300), batch, mesh))
    np.testing.assert_allclose(likelihoods[1], likelihoods[0], rtol=1e-4)


@pytest.mark.parametrize("breakpoint_", ["fixed", "random"])
def test_a_template_stands_around_heldout_texts_and_the_reward_is_read_behind_it(
    corpora, mesh, breakpoint_
):
    corpus, config = Corpus(corpora / "train"), HeldoutConfig(4, 2, breakpoint_)
    wrapping = Template(HUMAN_ASSISTANT, corpus.tokens()).wrapping()
    plain = Heldout(corpus, MOVED, config, seed=0)
    heldout = Heldout(corpus, MOVED, config, 0, HUMAN_ASSISTANT)
    model = noisy(RewardModel, TINY_300)
    for name in ("in_batch", "same_document"):
        batch, pairs = heldout._grids[name].batch, texts_of(plain._grids[name].batch)
        rewards = module._rewards(model, batch, mesh)
        for at, prefix, suffix in pairs:
            text = wrapping.before + prefix + wrapping.between + suffix + wrapping.after
            assert rewards[at] == pytest.approx(reward(model, text), rel=1e-3, abs=1e-4)
        np.testing.assert_array_equal(batch.negatives, plain._grids[name].batch.negatives)
    assert heldout.controls() == plain.controls(), "controls read text and lengths without it"
