import dataclasses
import json

import pytest

from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, differences, from_json, load_experiment, to_json
from rbs_jax.model.config import RopeScaling, TransformerConfig
from rbs_jax.sharding import MeshConfig

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


def test_a_pair_beyond_the_context_is_refused():
    with pytest.raises(UserError, match="max_positions 100"):
        Experiment(model=TransformerConfig(max_positions=100))


def test_every_config_of_the_repository_loads(request):
    configs = sorted((request.config.rootpath / "configs").glob("*.py"))
    assert configs
    for config in configs:
        assert isinstance(load_experiment(config), Experiment)
