import dataclasses
import re

import numpy as np
import pytest

from rbs_jax.cli import main
from rbs_jax.data.grid import GridConfig
from rbs_jax.data.reader import Corpus
from rbs_jax.data.split import SplitConfig
from rbs_jax.errors import UserError
from rbs_jax.eval.grids import masked, show_pairs, with_ends
from tests.tiny import made_up_documents

SPLIT = SplitConfig(prefix_length=12, suffix_length=8)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A few documents of some blocks each."""
    folder = tmp_path_factory.mktemp("pairs")
    for number, text in enumerate(made_up_documents(6)):
        (folder / f"{number}.txt").write_text(text)
    args = ["--tokenizer", "train:300", "--block-length", "20", "--out", str(folder / "corpus")]
    assert main(["prepare", str(folder / "*.txt"), *args]) == 0
    return Corpus(folder / "corpus")


@pytest.fixture(scope="module")
def one_grid(corpus):
    """The whole corpus in one grid, so that no order matters."""
    return GridConfig(prefixes=len(corpus))


@pytest.fixture(scope="module")
def touching(corpus):
    """Which blocks share a document, a block with itself too."""
    spans = corpus.read(range(len(corpus))).documents
    documents = [set(range(first, last + 1)) for first, last in spans.tolist()]
    return np.array([[bool(a & b) for b in documents] for a in documents])


def test_the_masked_share_is_that_of_blocks_with_a_common_document(corpus, one_grid, touching):
    found = masked(corpus, SPLIT, one_grid, 0)
    count = len(corpus)
    assert found == {
        "grids": 1,
        "prefixes": count,
        "masked": touching.sum() - count,
        "rows": count,
        "rows_without_negative": 0,
    }
    assert 0 < found["masked"] < count * (count - 1)


def test_rows_without_a_negative_are_counted(tmp_path):
    # Three blocks, of the first document, of both, of the second: the middle one has no negative.
    for number in range(2):
        (tmp_path / f"{number}.txt").write_text("xy" * 14)
    args = ["--tokenizer", "train:258", "--block-length", "19", "--out", str(tmp_path / "corpus")]
    assert main(["prepare", str(tmp_path / "*.txt"), *args]) == 0
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.read(range(3)).documents[:, 0].tolist()[0] < corpus.read([1]).documents[0, 1]
    split, grid = SplitConfig(prefix_length=10, suffix_length=9), GridConfig(prefixes=3)
    found = masked(corpus, split, grid, 0)
    assert (found["masked"], found["rows"], found["rows_without_negative"]) == (4, 3, 1)
    pairs = show_pairs(corpus, split, grid, 0, 9)
    without = [pair for pair in pairs if pair["hardest"] is None]
    assert [pair["negatives"] for pair in without] == [0]
    assert without[0]["hardest_overlap"] is None
    assert len(pairs) == 3


def test_what_else_the_grids_do_leaves_the_masked_share(corpus, one_grid):
    found = masked(corpus, SPLIT, one_grid, 0)
    for change in (
        {"same_document": "keep"},
        {"negatives_per_prefix": 1},
        {"permute_positives": True},
    ):
        assert masked(corpus, SPLIT, dataclasses.replace(one_grid, **change), 0) == found


def test_no_more_grids_than_said_are_counted(corpus, monkeypatch):
    monkeypatch.setattr("rbs_jax.eval.grids.GRIDS", 3)
    found = masked(corpus, SPLIT, GridConfig(prefixes=2, grids_per_step=2), 0)
    assert (found["grids"], found["rows"]) == (4, 8)


def test_pairs_are_shown_with_the_unmasked_negative_of_most_common_words(
    corpus, one_grid, touching
):
    tokens, rows = corpus.tokens(), corpus.read(range(len(corpus))).tokens.tolist()
    prefixes = [with_ends(tokens, row[:12]) for row in rows]
    suffixes = [with_ends(tokens, row[12:]) for row in rows]
    plain = tokens.decode([row[:12] for row in rows]), tokens.decode([row[12:] for row in rows])
    words = [[set(re.findall(r"\w+", text)) for text in texts] for texts in plain]
    overlap = [[len(s & p) / max(len(s), 1) for s in words[1]] for p in words[0]]
    pairs = show_pairs(corpus, SPLIT, one_grid, 0, len(corpus))
    assert sorted(pair["prefix"] for pair in pairs) == sorted(prefixes)
    masked_were_harder = 0
    for pair in pairs:
        block = prefixes.index(pair["prefix"])
        negatives = np.flatnonzero(~touching[block])
        most = max(overlap[block][other] for other in negatives)
        assert pair["suffix"] == suffixes[block]
        assert pair["overlap"] == overlap[block][block]
        assert pair["negatives"] == len(negatives)
        assert pair["hardest_overlap"] == most
        hardest = [suffixes[other] for other in negatives if overlap[block][other] == most]
        assert pair["hardest"] in hardest
        masked_were_harder += most < max(np.delete(overlap[block], block))
    assert masked_were_harder, "a corpus in which the mask changes nothing"


def test_pairs_are_spread_over_the_epoch_and_none_is_shown_twice(corpus):
    grid = GridConfig(prefixes=2, grids_per_step=2)
    steps = len(corpus) // 4
    pairs = show_pairs(corpus, SPLIT, grid, 0, 3)
    assert [pair["step"] for pair in pairs] == [0, 4 * steps // 3 // 4, 8 * steps // 3 // 4]
    every = show_pairs(corpus, SPLIT, grid, 0, 10**6)
    assert len({(pair["step"], pair["grid"], pair["row"]) for pair in every}) == 4 * steps
    assert show_pairs(corpus, SPLIT, grid, 0, 0) == []


def test_a_corpus_without_grids_is_refused(corpus):
    for look in (
        lambda grid: masked(corpus, SPLIT, grid, 0),
        lambda grid: show_pairs(corpus, SPLIT, grid, 0, 3),
    ):
        with pytest.raises(UserError, match="fewer than the 999 of one batch"):
            look(GridConfig(prefixes=999))


def test_the_end_of_a_document_is_shown_by_its_name(corpus):
    tokens = corpus.tokens()
    (ids,) = tokens.encode(["ab"])
    end = tokens.end_id
    assert with_ends(tokens, [end, *ids, end, end, *ids]) == (
        f"{tokens.end}ab{tokens.end}{tokens.end}ab"
    )
