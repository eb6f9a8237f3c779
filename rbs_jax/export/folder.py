"""`rbs export`: a MODEL to a folder that transformers, vLLM or plain orbax load."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp

from rbs_jax.convert.config import Head, config_json
from rbs_jax.convert.names import axes
from rbs_jax.convert.weights import leaf_paths
from rbs_jax.convert.write import Dtype, write_weights
from rbs_jax.data.template import Template, TemplateConfig
from rbs_jax.errors import UserError
from rbs_jax.experiment import to_json
from rbs_jax.export.card import model_card, provenance
from rbs_jax.files import refuse_existing, whole_folder, write_atomic, write_json
from rbs_jax.model.reward import RewardModel
from rbs_jax.sharding import mesh_for_scoring
from rbs_jax.train.models import RECORD, Found, LoadedModel, find_model, load_model

Format = Literal["hf", "orbax"]


def export(model: str, out: Path, form: Format, dtype: Dtype = "float32") -> dict[str, Any]:
    """Write a MODEL to a folder, which appears once it is whole.

    `hf`: a Hugging Face folder: `*ForSequenceClassification` with one label, or
    `*ForCausalLM` for a language model. `orbax`: the float32 parameters as one orbax
    item, with a config.json.

    Returns:
      What was written: the folder, the MODEL and the number of parameters.

    Raises:
      UserError: no such model, `out` exists, no Hugging Face architecture has what the
        model has, or the file system refuses a write.
    """
    refuse_existing(out)
    if form == "orbax" and dtype != "float32":
        raise UserError("--dtype is for --format hf: orbax keeps the float32 parameters")
    found = find_model(model)
    mesh = mesh_for_scoring(found.experiment.mesh)
    with jax.set_mesh(mesh):
        loaded = load_model(found, mesh)
        with whole_folder(out) as folder:
            if form == "hf":
                _write_hf(found, loaded, folder, dtype)
            else:
                _write_orbax(found, loaded, folder)
        count = sum(x.size for x in jax.tree.leaves(loaded.model))
    return {"folder": str(out), "format": form, "model": str(found), "parameters": count}


def _write_hf(found: Found, loaded: LoadedModel, folder: Path, dtype: Dtype) -> None:
    experiment, config = loaded.experiment, loaded.experiment.model
    is_reward = isinstance(loaded.model, RewardModel)
    source = loaded.tokens.chat_template
    if is_reward:
        source = Template(experiment.template, loaded.tokens).source
    tokens = loaded.tokens.serving(source)
    rows = max(config.vocab_size, tokens.vocab_size)
    special_ids = {
        f"{part}_id": tokens.id_of(part) for part in ("bos_token", "eos_token", "pad_token")
    }
    sized = dataclasses.replace(config, vocab_size=rows)
    head: Head = "SequenceClassification" if is_reward else "CausalLM"
    # The template that training saw is the folder's chat template, whatever it was called.
    template = (
        dataclasses.replace(experiment.template, form="chat") if is_reward else TemplateConfig()
    )
    recorded = dataclasses.replace(experiment, model=sized, template=template)
    write_json(folder / "config.json", config_json(sized, head, dtype, special_ids))
    write_weights(loaded.model, config, rows, folder, dtype)
    tokens.save(folder)
    said = provenance(found)
    write_json(folder / RECORD, {"experiment": to_json(recorded), **said})
    write_atomic(folder / "README.md", model_card(found, recorded, dtype, said))


def _write_orbax(found: Found, loaded: LoadedModel, folder: Path) -> None:
    leaves = dict(leaf_paths(loaded.model))
    with ocp.StandardCheckpointer() as checkpointer:
        # As numpy arrays: orbax ties those of devices to the mesh they were saved from.
        checkpointer.save((folder / "params").absolute(), _nested(jax.device_get(leaves)))
    letters = {path.removeprefix("."): axes(path) for path in leaves}
    said = {"experiment": to_json(loaded.experiment), "axes": letters, **provenance(found)}
    write_json(folder / "config.json", {"model": to_json(loaded.experiment)["model"], **said})
    loaded.tokens.save(folder)


def _nested(leaves: dict[str, Any]) -> dict[str, Any]:
    """`.a.b` -> {"a": {"b": ...}}."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *above, last = path.removeprefix(".").split(".")
        node = tree
        for name in above:
            node = node.setdefault(name, {})
        node[last] = leaf
    return tree
