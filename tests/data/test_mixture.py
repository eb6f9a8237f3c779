import dataclasses
from collections import Counter

import numpy as np
import pytest

from rbs_jax.data import mixture as mixture_module
from rbs_jax.data.grid import GridConfig
from rbs_jax.data.mixture import Mixture, fingerprint, turns
from rbs_jax.data.order import Order

GRID = GridConfig(prefixes=4, grids_per_step=3)


def test_one_corpus_is_drawn_in_its_own_order():
    for grid in (GRID, GridConfig(4, 2, same_document="seek"), GridConfig(4, 2, order="corpus")):
        alone, order = Mixture([[45]], (), grid, seed=0), Order([45], grid, seed=0)
        assert alone.steps_per_epoch == order.steps_per_epoch
        for step in range(2 * order.steps_per_epoch + 1):
            np.testing.assert_array_equal(alone(step).blocks, order(step))
            assert not alone(step).corpora.any()


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.7, 0.3), (5.0, 3.0, 1.0), (0.01, 90.0, 3.0)])
@pytest.mark.parametrize("order", ["windows", "corpus"])
def test_corpora_take_even_turns_by_weight_and_each_follows_its_own_epochs(weights, order):
    grid = dataclasses.replace(GRID, order=order, window=9)
    corpora = [[9 + 4 * number, 6] for number in range(len(weights))]
    mixture = Mixture(corpora, weights, grid, seed=1)
    own = dataclasses.replace(grid, grids_per_step=1)
    orders = [Order(corpus, own, seed=1) for corpus in corpora]
    shares, seen = np.array(weights) / sum(weights), Counter()
    for step in range(25):
        drawn = mixture(step)
        for corpus, blocks in zip(drawn.corpora.tolist(), drawn.blocks, strict=True):
            np.testing.assert_array_equal(blocks, orders[corpus](seen[corpus])[0])
            seen[corpus] += 1
        for corpus, share in enumerate(shares):
            due = share * 3 * (step + 1)
            assert abs(seen[corpus] - due) <= 1, "turns should be even"


def test_turns_go_on_evenly_behind_a_cycle(monkeypatch):
    monkeypatch.setattr(mixture_module, "CYCLE", 10)
    mixture = Mixture([[40], [40]], (0.7, 0.3), GRID, seed=0)
    corpora = np.concatenate([mixture(step).corpora for step in range(20)])
    assert [(corpora[at : at + 10] == 0).sum() for at in range(0, 60, 10)] == [7] * 6
    own, seen = dataclasses.replace(GRID, grids_per_step=1), 0
    order = Order([40], own, seed=0)
    for step in range(20):
        for corpus, blocks in zip(*mixture(step), strict=True):
            if corpus == 1:
                np.testing.assert_array_equal(blocks, order(seen)[0])
                seen += 1
    assert seen == 18


def test_a_step_is_reached_directly_and_a_host_draws_its_part():
    corpora = [[40], [30], [8]]
    mixture = Mixture(corpora, (5.0, 3.0, 1.0), GRID, seed=0)
    forward = [mixture(step) for step in range(50)]
    for step in (49, 0, 30):
        np.testing.assert_equal(Mixture(corpora, (5.0, 3.0, 1.0), GRID, 0)(step), forward[step])
        parts = [mixture(step, slice(host, host + 1)) for host in range(3)]
        for name in ("corpora", "blocks"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(forward[step], name))


def test_without_weights_corpora_count_by_their_blocks():
    assert turns([300, 100], ()) == [75_000, 25_000]
    assert turns([300, 100], (1.0, 1.0)) == [50_000, 50_000]
    assert turns([300, 100], (2.1, 0.9)) == [70_000, 30_000]
    assert turns([10**9, 4], ())[1] == 1, "none is left out"
    assert Mixture([[300], [100]], (), GRID, 0).steps_per_epoch == 400 // 12
    assert Mixture([[4], [4]], (), GRID, 0).steps_per_epoch == 1


def test_the_fingerprint_is_the_corpus_s_own_or_covers_all_and_their_turns(corpus, sharded):
    assert fingerprint([corpus], ()) == corpus.manifest.fingerprint
    prints = {
        fingerprint([corpus, sharded], ()),
        fingerprint([sharded, corpus], ()),
        fingerprint([corpus, sharded], (0.7, 0.3)),
        fingerprint([corpus, sharded], (0.3, 0.7)),
    }
    assert len(prints) == 4
    assert fingerprint([corpus, sharded], (7.0, 3.0)) in prints
    assert fingerprint([corpus, sharded], (float(len(corpus)), float(len(sharded)))) in prints
