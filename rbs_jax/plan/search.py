"""What a plan compiles: the experiment as a pod's chips could run it."""

import dataclasses
from pathlib import Path
from typing import Any

from rbs_jax.data.reader import Corpus
from rbs_jax.data.template import Template
from rbs_jax.data.tokens import load_tokens
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.language import LanguageModel
from rbs_jax.plan.compile import Texts
from rbs_jax.plan.pod import Pod
from rbs_jax.remote import is_remote
from rbs_jax.sharding import MeshConfig
from rbs_jax.storage import exists
from rbs_jax.train.fit import area, tiles
from rbs_jax.train.models import NOT_SIZES, folder_of, with_sizes
from rbs_jax.train.topology import factors


def sized(experiment: Experiment) -> Experiment:
    """The experiment with a model of its sizes and no weights to read.

    Where what `model.init` names is not here, its sizes are those that the config gives.

    Raises:
      UserError: it gives none, or others than the model has.
    """
    init = experiment.model.init
    if init is not None and exists(folder_of(init)):
        experiment = with_sizes(experiment)
    elif init is not None and not _gives_sizes(experiment.model):
        raise UserError(
            f"model.init {init} is not here, and the config gives no sizes: put the backbone's "
            "into the config (rbs_jax/model/backbones.py has some), or bring the folder"
        )
    return dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, init=None))


def _gives_sizes(config: TransformerConfig) -> bool:
    plain = TransformerConfig()
    names = {field.name for field in dataclasses.fields(config)} - {*NOT_SIZES}
    return any(getattr(config, name) != getattr(plain, name) for name in names)


def texts_of(experiment: Experiment) -> tuple[Texts, list[str]]:
    """How long the texts of a batch are, and what of that could only be guessed.

    A corpus tells, and a tokenizer, where they are here; remote ones are not asked.

    Raises:
      UserError: what is here cannot be read.
    """
    split, form = experiment.split, experiment.template.form
    guess = Texts(split.longest_prefix, split.suffix_length, split.tokens_used)
    if experiment.kind is LanguageModel:
        here = next((corpus for corpus in experiment.data.train if Path(corpus).is_dir()), None)
        if here is not None:
            return guess._replace(block=Corpus(here).manifest.block_length), []
        return guess, [f"data.train is not here: blocks are taken to have {guess.block} ids"]
    if form == "plain":  # adds nothing
        return guess, []
    named = [*experiment.data.train, experiment.model.init or ""]
    folders = [folder_of(name) for name in named if name and not is_remote(name)]
    found = next((folder for folder in folders if exists(f"{folder}/tokenizer.json")), None)
    if found is None:
        return guess, [f"no tokenizer is here: the ids of template.form {form} are not counted"]
    before, between, after = map(len, Template(experiment.template, load_tokens(found)).wrapping())
    return guess._replace(prefix=before + guess.prefix + between, suffix=guess.suffix + after), []


def candidates(experiment: Experiment, pod: Pod) -> list[Experiment]:
    """The experiment on each mesh of the pod that divides it, its own first.

    Then in order of how many devices are not `fsdp`'s: that axis alone leaves the
    recipe as it is and no weight whole. Where `data` has more devices than a step has
    grids, a step has more grids; so there is always a mesh, all `data` if no other.
    """
    found = [
        (data * tensor, tensor, spread)
        for data, fsdp, tensor in factors(pod.chips)
        if data % pod.slices == 0
        and (spread := _on(experiment, MeshConfig(data, fsdp, tensor))) is not None
    ]
    found.sort(key=lambda entry: (entry[2].mesh.sizes != experiment.mesh.sizes, *entry[:2]))
    return [spread for *_, spread in found]


def _on(experiment: Experiment, mesh: MeshConfig) -> Experiment | None:
    """The experiment on a mesh; None where it does not divide."""
    data = mesh.sizes.data
    rounds = -(-experiment.grid.grids_per_step // data)
    grid = dataclasses.replace(experiment.grid, grids_per_step=rounds * data)
    try:
        return dataclasses.replace(experiment, mesh=mesh, grid=grid)
    except UserError:
        return None


def thriftier(experiment: Experiment, needed: int | None, usable: float) -> Experiment | None:
    """The same step in less memory, for more time; None where nothing is left to save.

    Layers are run again in the backward pass, then tiles get smaller: at once to one that may
    fit, since a step that needs `needed` bytes holds something beside its tile.
    """
    if experiment.model.remat != "full":
        model = dataclasses.replace(experiment.model, remat="full")
        return dataclasses.replace(experiment, model=model)
    now = area(experiment, experiment.tile)
    for tile in tiles(experiment, on_cpu=False):
        size = area(experiment, tile)
        if size < now and size * (needed or 0) <= now * usable:
            return dataclasses.replace(experiment, tile=tile)
    return None


def settings(experiment: Experiment) -> dict[str, Any]:
    """What a plan chooses, by the fields' names."""
    mesh, grid, tile = experiment.mesh.sizes, experiment.grid, experiment.tile
    chosen = {
        "mesh.data": mesh.data,
        "mesh.fsdp": mesh.fsdp,
        "mesh.tensor": mesh.tensor,
        "grid.grids_per_step": grid.grids_per_step,
        "model.remat": experiment.model.remat,
        "tile.prefixes": tile.prefixes or experiment.prefixes_per_update,
    }
    if experiment.kind is not LanguageModel:
        chosen["tile.suffixes"] = tile.suffixes or grid.prefixes
    return chosen
