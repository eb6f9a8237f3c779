import dataclasses
import json
import math
import sys
import types

import pytest

from rbs_jax.data.split import SplitConfig
from rbs_jax.errors import UserError
from rbs_jax.experiment import (
    DataConfig,
    Experiment,
    TrainConfig,
    differences,
    from_json,
    load_experiment,
    to_json,
)
from rbs_jax.model.config import RopeScaling, TransformerConfig
from rbs_jax.optim import OptimConfig
from rbs_jax.sharding import MeshConfig
from rbs_jax.train.heldout import HeldoutConfig

EXPERIMENT = Experiment(model=TransformerConfig(rope_scaling=RopeScaling(factor=8.0)), seed=3)


def test_json_and_back_is_the_same_value():
    assert from_json(json.loads(json.dumps(to_json(EXPERIMENT)))) == EXPERIMENT


def test_an_unknown_field_is_named_with_the_nearest():
    fields = to_json(EXPERIMENT)
    fields["optim"]["learning_rat"] = 1.0
    with pytest.raises(UserError, match=r"optim\.learning_rat .*perhaps optim\.learning_rate"):
        from_json(fields)


def test_differences_name_each_leaf():
    other = dataclasses.replace(
        EXPERIMENT, seed=4, model=dataclasses.replace(EXPERIMENT.model, width=64)
    )
    assert differences(to_json(EXPERIMENT), to_json(other)) == [
        "model.width: 128 -> 64",
        "seed: 3 -> 4",
    ]


def test_sizes_that_do_not_divide_the_mesh_are_refused_with_the_nearest_that_do():
    with pytest.raises(UserError, match=r"mesh\.fsdp 3 .*grid\.prefixes 16.*15 or 18"):
        Experiment(mesh=MeshConfig(fsdp=3))
    with pytest.raises(UserError, match=r"mesh\.data 4 .*grids_per_step 1; the nearest is 4"):
        Experiment(mesh=MeshConfig(data=4))


@pytest.mark.parametrize(
    ("prefixes", "nearest"), [(3, "2 or 4"), (7, "4 or 8"), (9, "8 or 16"), (32, "16$")]
)
def test_updates_that_do_not_divide_a_grid_are_refused_with_the_nearest_that_do(prefixes, nearest):
    with pytest.raises(UserError, match=rf"prefixes_per_update {prefixes} .*nearest is {nearest}"):
        Experiment(optim=OptimConfig(prefixes_per_update=prefixes))


def test_an_update_has_prefixes_for_every_device_along_fsdp():
    with pytest.raises(UserError, match=r"mesh\.fsdp 2 .*prefixes_per_update 1; the nearest is 2"):
        Experiment(optim=OptimConfig(prefixes_per_update=1), mesh=MeshConfig(fsdp=2))


def test_updates_of_a_step_are_the_grid_s_prefixes_over_those_of_an_update():
    assert Experiment().updates_per_step == 1
    assert Experiment(optim=OptimConfig(prefixes_per_update=1)).updates_per_step == 16
    assert Experiment(optim=OptimConfig(prefixes_per_update=8)).updates_per_step == 2


def test_a_prefix_that_reaches_beyond_the_context_is_refused():
    fits = SplitConfig(64, 30, reach=6)
    Experiment(split=fits, model=TransformerConfig(max_positions=94))
    for part in (
        {"split": dataclasses.replace(fits, breakpoint="random")},
        {"split": fits, "heldout": HeldoutConfig(breakpoint="sentence")},
    ):
        with pytest.raises(UserError, match=r"= 100 tokens exceed model\.max_positions 94"):
            Experiment(model=TransformerConfig(max_positions=94), **part)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"best_every": 0}, r"train\.best_every is 0"),
        ({"max_skipped": 0}, r"train\.max_skipped is 0"),
        ({"patience": 3}, r"set train\.best_every too"),
    ],
)
def test_training_settings_that_cannot_be_are_named(wrong, said):
    with pytest.raises(UserError, match=said):
        TrainConfig(**wrong)


def test_a_pair_beyond_the_context_is_refused():
    with pytest.raises(UserError, match="max_positions 100"):
        Experiment(model=TransformerConfig(max_positions=100))


def test_a_config_imports_the_files_beside_it_and_leaves_nothing_behind(tmp_path):
    search, loaded = sys.path[:], set(sys.modules)
    for folder, seed in (("one", 1), ("two", 2), ("one", 1)):
        (tmp_path / folder).mkdir(exist_ok=True)
        # The standard library has a `this` too.
        (tmp_path / folder / "this.py").write_text(f"seed = {seed}\n")
        config = tmp_path / folder / "config.py"
        config.write_text(
            "from this import seed\nfrom rbs_jax.experiment import Experiment\n"
            "experiment = Experiment(seed=seed)\n"
        )
        assert load_experiment(config).seed == seed
        assert sys.path == search
        assert set(sys.modules) == loaded


def test_a_config_that_fails_leaves_nothing_behind_either(tmp_path):
    search = sys.path[:]
    (tmp_path / "base.py").write_text("")
    (tmp_path / "config.py").write_text("import base\nfrom base import nothing\n")
    with pytest.raises(UserError, match=r"config\.py:2: ImportError"):
        load_experiment(tmp_path / "config.py")
    assert sys.path == search
    assert "base" not in sys.modules


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"train": ("a", "b"), "weights": (1.0,)}, r"data\.weights are 1 for the 2 corpora"),
        ({"train": ("a", "b"), "weights": (1.0, 0.0)}, r"data\.weights are 1\.0 0\.0, each must"),
        ({"train": ("a",), "weights": (math.nan,)}, r"data\.weights are nan, each must be above"),
        ({"cache_gigabytes": 0.0}, r"data\.cache_gigabytes is 0\.0"),
    ],
)
def test_data_settings_that_cannot_be_are_named(wrong, said):
    with pytest.raises(UserError, match=said):
        DataConfig(**wrong)


def test_a_corpus_by_name_alone_is_refused_with_what_to_write():
    """Python's own constructor lets it in; that of these tests checks types before."""
    unchecked = types.SimpleNamespace(train="corpora/a")
    with pytest.raises(
        UserError, match=r'data\.train is a tuple of corpora: give \("corpora/a",\)'
    ):
        DataConfig.__post_init__(unchecked)


def test_a_record_with_one_corpus_by_name_alone_is_that_of_older_versions():
    mixed = Experiment(data=DataConfig(train=("a", "s3://b/c"), weights=(0.7, 0.3)))
    fields = json.loads(json.dumps(to_json(mixed)))
    assert from_json(fields) == mixed
    older = {"data": {"train": "corpora/a", "valid": None, "test": "t"}}
    assert from_json(older).data == DataConfig(train=("corpora/a",), test="t")
