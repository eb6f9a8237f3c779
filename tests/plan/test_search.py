import dataclasses
from pathlib import Path

import pytest

from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.grid import GridConfig
from rbs_jax.data.template import TemplateConfig
from rbs_jax.data.tokens import train_tokens
from rbs_jax.errors import UserError
from rbs_jax.experiment import DataConfig, Experiment, load_experiment
from rbs_jax.model.backbones import LLAMA32_1B
from rbs_jax.model.config import TransformerConfig
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.plan.compile import Texts
from rbs_jax.plan.pod import Pod, parse_pod
from rbs_jax.plan.search import candidates, settings, sized, texts_of, thriftier
from rbs_jax.sharding import MeshConfig
from rbs_jax.train.tile import TileConfig
from tests.tiny import made_up_documents

CONFIGS = Path(__file__).parents[2] / "configs"
OURS = load_experiment(CONFIGS / "llama32_1b.py")


def meshes(experiment, topology):
    found = candidates(sized(experiment), parse_pod(topology))
    return [(*dataclasses.astuple(one.mesh), one.grid.grids_per_step) for one in found]


def test_a_config_s_own_mesh_comes_first_and_then_those_that_change_least():
    found = meshes(OURS, "v5e:4x4")
    assert found[0] == (1, 16, 1, 1)
    assert found[1:4] == [(2, 8, 1, 2), (1, 8, 2, 1), (4, 4, 1, 4)]
    assert len(found) == len(set(found))
    assert all(data * fsdp * tensor == 16 for data, fsdp, tensor, _ in found)
    assert all(grids % data == 0 for data, _, _, grids in found)
    other = dataclasses.replace(OURS, mesh=MeshConfig(fsdp=4, tensor=4))
    assert meshes(other, "v5e:4x4")[0] == (1, 4, 4, 1)
    assert meshes(other, "v5e:4x4")[1] == (1, 16, 1, 1)


def test_grids_per_step_grow_with_data_and_no_further():
    grid = dataclasses.replace(OURS.grid, grids_per_step=6)
    found = meshes(dataclasses.replace(OURS, grid=grid), "v5e:4x4")
    assert {data: grids for data, _, _, grids in found} == {1: 6, 2: 6, 4: 8, 8: 8, 16: 16}


def test_slices_are_joined_by_data():
    assert all(data % 4 == 0 for data, *_ in meshes(OURS, "4*v5e:2x2"))


def test_a_pod_that_nothing_else_divides_carries_whole_grids():
    assert meshes(OURS, "v5e:1x3") == [(3, 1, 1, 3)]


def test_what_is_not_here_is_planned_by_the_config_s_sizes():
    model = sized(OURS).model
    assert model == LLAMA32_1B
    unsized = dataclasses.replace(OURS, model=TransformerConfig(init="backbones/none"))
    with pytest.raises(UserError, match="backbones/none is not here, and the config gives no"):
        sized(unsized)


def test_sizes_that_do_not_fit_the_mesh_are_refused():
    wide = dataclasses.replace(OURS.model, width=2056)
    with pytest.raises(UserError, match=r"does not divide model\.width 2056"):
        sized(dataclasses.replace(OURS, model=wide))


def test_remat_saves_first_then_the_next_tile_that_may_fit():
    plain = Experiment(model=TransformerConfig(remat="dots"), grid=GridConfig(prefixes=4))
    saved = thriftier(plain, None, 100.0)
    assert saved is not None
    assert settings(saved) == settings(plain) | {"model.remat": "full"}
    smaller = thriftier(saved, None, 100.0)
    assert smaller is not None
    assert smaller.tile == TileConfig(2, 4)
    much_smaller = thriftier(saved, 300, 100.0)
    assert much_smaller is not None
    assert much_smaller.tile == TileConfig(1, 4)
    assert thriftier(dataclasses.replace(saved, tile=TileConfig(1, 1)), 300, 100.0) is None


def test_texts_are_as_long_as_the_split_and_the_template_make_them(tmp_path):
    assert texts_of(OURS) == (Texts(512, 1024, 1536), [])
    split = dataclasses.replace(OURS.split, breakpoint="random", reach=16)
    assert texts_of(dataclasses.replace(OURS, split=split))[0] == Texts(528, 1024, 1552)
    chat = dataclasses.replace(OURS, template=TemplateConfig("human_assistant"))
    assert texts_of(chat)[1] == [
        "no tokenizer is here: the ids of template.form human_assistant are not counted"
    ]
    documents = made_up_documents(20)
    write_corpus(documents, tmp_path / "corpus", train_tokens(documents, 300), 24, {})
    data = DataConfig(train=(str(tmp_path / "corpus"),), valid="valid")
    texts, notes = texts_of(dataclasses.replace(chat, data=data))
    assert notes == []
    assert texts.prefix > 512
    assert texts.suffix > 1024


def test_blocks_are_as_long_as_the_corpus_s(tmp_path):
    language = Experiment(objective=ObjectiveConfig("causal_lm"))
    texts, notes = texts_of(language)
    assert (texts.block, len(notes)) == (128, 1)
    documents = made_up_documents(20)
    write_corpus(documents, tmp_path / "corpus", train_tokens(documents, 300), 24, {})
    here = dataclasses.replace(language, data=DataConfig(train=(str(tmp_path / "corpus"),)))
    assert texts_of(here) == (texts._replace(block=24), [])


def test_a_pod_s_name():
    assert parse_pod("v5e:4x4") == Pod("v5e", (4, 4), 1)
    assert parse_pod("2*v5p:2x2x4") == Pod("v5p", (2, 2, 4), 2)
    assert (parse_pod("2*v5p:2x2x4").chips, str(parse_pod("2*v6e:8x8"))) == (32, "2*v6e:8x8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("v5e", "give CHIP:AxB"),
        ("v5e-16", "give CHIP:AxB"),
        ("v5e:4by4", "give CHIP:AxB"),
        ("x*v5e:4x4", "give CHIP:AxB"),
        ("v9:4x4", "no chip v9 is known here, only v5e, v5p, v6e"),
        ("v5e:4x4x4", "a slice of v5e has 2 axes"),
        ("v5p:4x4", "a slice of v5p has 3 axes"),
        ("v5e:32x32", "1 to 256 chips"),
        ("v5e:0x4", "1 to 256 chips"),
        ("0*v5e:4x4", "at least one slice"),
        ("257*v5e:4x4", "256 at most"),
    ],
)
def test_a_pod_that_cannot_be_is_refused(text, said):
    with pytest.raises(UserError, match=said.replace("*", r"\*")):
        parse_pod(text)
