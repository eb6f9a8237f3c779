"""MODEL arguments: a run, by path or URL, or a Hugging Face folder, and what to start from it."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from rbs_jax.convert.config import read_config
from rbs_jax.convert.weights import Leaves, filled, head_offset, leaf_paths, read_weights
from rbs_jax.data.split import SplitConfig
from rbs_jax.data.template import TemplateConfig
from rbs_jax.data.tokens import Tokens, load_tokens
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, from_json
from rbs_jax.hosts.together import first_says
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.kinds import Model, fresh, shapes_of
from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.remote import is_remote
from rbs_jax.storage import exists
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.folder import CHECKPOINTS
from rbs_jax.train.state import abstract

INIT = "init"
"""FOLDER@init: what the run started from, step 0: a random head."""
RECORD = "rbs_jax.json"
"""What an exported Hugging Face folder says of the run that it comes from."""
NOT_SIZES = ("dtype", "remat", "scan_layers", "init_scale", "head_offset", "init")
"""Fields of a model that are the user's choice, whatever it starts from."""


class Found(NamedTuple):
    """What a MODEL names."""

    folder: str
    """A path, or of a run a URL too."""
    step: int | None
    """Of a run; None for a Hugging Face folder."""
    experiment: Experiment

    def __str__(self) -> str:
        """As a MODEL argument."""
        return self.folder if self.step is None else f"{self.folder}@{self.step or INIT}"


class LoadedModel(NamedTuple):
    """A trained model with all that is needed to score text with it."""

    model: Model
    experiment: Experiment
    tokens: Tokens


def find_model(name: str) -> Found:
    """What a MODEL names: a Hugging Face folder, or a run.

    FOLDER is a run's newest checkpoint, FOLDER@STEP another, FOLDER@best the best by
    same-document accuracy on valid, and FOLDER@init (step 0) what the run started from.
    A Hugging Face folder that `rbs export` wrote says how to score; of another, the
    experiment holds defaults, its dtype, and its chat template where it has one.

    Raises:
      UserError: neither is there, the run has no such checkpoint, the folder's
        architecture is not supported, or a Hugging Face folder lies in a bucket.
    """
    folder, is_run = first_says(lambda: _place_of(name))
    names_step = folder != _normal(name)
    if not is_run:
        if names_step:
            raise UserError(f"{name}: a Hugging Face folder has no checkpoints; give {folder}")
        return Found(folder, None, _described(Path(folder)))
    with Checkpoints(folder, keep=1) as checkpoints:
        steps = checkpoints.steps()
        if not steps:
            raise UserError(f"{folder}: the run has no whole checkpoint yet")
        step = _step(name, checkpoints) if names_step else steps[-1]
        return Found(folder, step, from_json(checkpoints.notes(step or steps[-1])[1]))


def _place_of(name: str) -> tuple[str, bool]:
    """The folder that a MODEL names, and whether it is a run's."""
    folder = folder_of(name)
    if exists(f"{folder}/{CHECKPOINTS}"):
        return folder, True
    if not exists(f"{folder}/config.json"):
        raise UserError(
            f"{folder}: no model here, neither a run's checkpoints nor a Hugging Face config.json; "
            "train one with `rbs train`"
        )
    if is_remote(folder):
        raise UserError(f"{folder}: a Hugging Face folder in a bucket; copy it to this machine")
    return folder, False


def folder_of(name: str) -> str:
    """The folder that a MODEL names, there or not."""
    folder, at, _ = name.rpartition("@")
    return _normal(folder if at and not exists(name) else name)


def _normal(name: str) -> str:
    return name.rstrip("/") if is_remote(name) else str(Path(name))


def _step(name: str, checkpoints: Checkpoints) -> int:
    wanted, steps, best = name.rpartition("@")[2], checkpoints.steps(), checkpoints.best()
    if wanted == INIT:
        return 0
    if wanted == "best" and best is not None:
        return best
    if wanted == "best":
        raise UserError(f"{name}: no checkpoint was measured; train with --train.best-every")
    if wanted not in map(str, steps):
        there = [*map(str, steps), *(["best"] if best is not None else []), INIT]
        raise UserError(f"{name}: no such checkpoint; here are {', '.join(there)}")
    return int(wanted)


def _described(folder: Path) -> Experiment:
    """The experiment that stands for a Hugging Face folder."""
    described, record = read_config(folder), folder / RECORD
    if record.is_file():
        try:
            recorded = from_json(json.loads(record.read_text(encoding="utf-8"))["experiment"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{record}: not what rbs export writes: {error!r}") from error
        return dataclasses.replace(recorded, model=_sized(recorded.model, described.config))
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    halved = (fields.get("dtype") or fields.get("torch_dtype")) in ("bfloat16", "float16")
    config = dataclasses.replace(
        described.config,
        dtype="bfloat16" if halved else "float32",
        head_offset=head_offset(folder, described),
    )
    half = max(min(config.max_positions // 2, SplitConfig().prefix_length), 1)
    experiment = Experiment(model=config, split=SplitConfig(half, half))
    if described.head == "CausalLM":
        return dataclasses.replace(experiment, objective=ObjectiveConfig(loss="causal_lm"))
    has_template = (folder / "tokenizer.json").is_file() and load_tokens(folder).chat_template
    form = TemplateConfig(form="chat") if has_template else TemplateConfig()
    return dataclasses.replace(experiment, template=form)


def load_model(found: Found, mesh: Mesh) -> LoadedModel:
    """The parameters that a MODEL names, on the ambient mesh, and how to score with them.

    Raises:
      UserError: the folder's tensors are not the model's, or it has no tokenizer.
    """
    experiment, tokens = found.experiment, load_tokens(found.folder)
    if tokens.vocab_size > experiment.model.vocab_size:
        raise UserError(
            f"{found}: the tokenizer has {tokens.vocab_size} ids, the model's embeddings "
            f"{experiment.model.vocab_size} rows; they do not belong together"
        )
    if found.step == 0:
        return LoadedModel(start_model(experiment, mesh), experiment, tokens)
    like = shapes_of(experiment.kind, experiment.model)
    if found.step is None:
        paths = {path for path, _ in leaf_paths(like)}
        folder = Path(found.folder)
        leaves = read_weights(folder, read_config(folder), paths, set(), mesh)
        return LoadedModel(filled(like, leaves), experiment, tokens)
    with Checkpoints(found.folder, keep=1) as checkpoints:
        model = checkpoints.restore_model(found.step, abstract(mesh, like))
    return LoadedModel(model, experiment, tokens)


def with_sizes(experiment: Experiment, out: str | None = None) -> Experiment:
    """The experiment with the sizes of the model that it starts from, `model.init`.

    The init is named with its step, so that it stays what it was while that run goes on.
    A run that `out` already holds has its sizes from its own checkpoint: what it
    started from may be gone.

    Raises:
      UserError: there is no such model, or the config asks for other sizes.
    """
    config = experiment.model
    if config.init is None:
        return experiment
    begun = None if out is None else _begun_in(out)
    if begun is not None and _is_same(config.init, begun.init):
        source, name, offset = begun, begun.init, begun.head_offset
    else:
        found = find_model(config.init)
        source, name = found.experiment.model, str(found)
        keeps_head = experiment.kind is RewardModel and found.experiment.kind is RewardModel
        offset = source.head_offset if keeps_head else 0.0
    _refuse_other_sizes(config, source)
    sized = dataclasses.replace(_sized(config, source), init=name, head_offset=offset)
    if config.max_positions != TransformerConfig().max_positions:
        sized = dataclasses.replace(sized, max_positions=config.max_positions)
    experiment = dataclasses.replace(experiment, model=sized)
    experiment.check_model()
    return experiment


def _begun_in(out: str) -> TransformerConfig | None:
    """The model of the run that a folder holds; None where it has no checkpoint."""
    if not first_says(lambda: exists(f"{out}/{CHECKPOINTS}")):
        return None
    with Checkpoints(out, keep=1) as checkpoints:
        newest = checkpoints.newest()
        return None if newest is None else from_json(checkpoints.notes(newest)[1]).model


def _is_same(given: str, kept: str | None) -> bool:
    """Whether a name is the one that a run keeps, which may have its step behind it."""
    return kept is not None and given in (kept, kept.rpartition("@")[0])


def _refuse_other_sizes(config: TransformerConfig, source: TransformerConfig) -> None:
    plain = TransformerConfig()
    for field in dataclasses.fields(config):
        own, theirs = getattr(config, field.name), getattr(source, field.name)
        shorter = field.name == "max_positions" and own < theirs
        asked = own != getattr(plain, field.name) and field.name not in NOT_SIZES
        if asked and own != theirs and not shorter:
            raise UserError(
                f"model.{field.name} is {own}, but {theirs} in {config.init}, which model.init "
                "names; leave it out, or take another model"
            )


def _sized(config: TransformerConfig, source: TransformerConfig) -> TransformerConfig:
    """The config with the sizes of another; what is the user's choice stays."""
    own = {name: getattr(config, name) for name in NOT_SIZES}
    return dataclasses.replace(source, **own)


def start_model(experiment: Experiment, mesh: Mesh) -> Model:
    """The model before its first step, on the ambient mesh: fresh, or what `model.init` names.

    The trunk is the source's, and so is its head where it is of the same kind; else
    the head is drawn from N(0, init_scale^2) by the seed.

    Raises:
      UserError: the source cannot be read.
    """
    kind, config = experiment.kind, experiment.model
    if config.init is None:
        return fresh(kind, experiment.seed, config)
    found, like = find_model(config.init), shapes_of(kind, config)
    paths = {path for path, _ in leaf_paths(like)}
    head = {path for path in paths if path.startswith(".head")}
    if found.step is None:
        folder = Path(found.folder)
        may_lack = set() if found.experiment.kind is kind else head
        leaves = read_weights(folder, read_config(folder), paths, may_lack, mesh)
    else:
        source = load_model(found, mesh).model  # its head has another path in another kind
        leaves = {path: leaf for path, leaf in leaf_paths(source) if path in paths}
    missing = paths - set(leaves)
    if missing:
        drawn = f"has no head of this kind, drawn from N(0, {config.init_scale}^2)"
        print(f"rbs: {found}: {drawn}", file=sys.stderr)
    return filled(like, leaves | _fresh_leaves(kind, experiment.seed, config, missing))


def _fresh_leaves(
    kind: type[Model], seed: int, config: TransformerConfig, paths: set[str]
) -> Leaves:
    """Some leaves of a fresh model; the others are never made."""

    def make() -> Leaves:
        model = kind(jax.random.key(seed), config)
        return {path: leaf for path, leaf in leaf_paths(model) if path in paths}

    return jax.jit(make)() if paths else {}
