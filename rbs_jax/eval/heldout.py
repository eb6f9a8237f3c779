"""`rbs eval MODEL heldout`: the three held-out figures on any prepared corpus."""

import json
from pathlib import Path
from typing import Any

import jax

from rbs_jax.data.reader import Corpus
from rbs_jax.errors import UserError
from rbs_jax.files import make_folder, write_json
from rbs_jax.model.reward import init_reward_model
from rbs_jax.sharding import mesh_for_scoring
from rbs_jax.train.checkpoint import INIT, find_checkpoint, load_model, read_experiment
from rbs_jax.train.heldout import MEASURES, Heldout


def evaluate(model: str, data: Path, out: Path) -> dict[str, Any]:
    """Measure a model on a corpus and write OUT/result.json.

    The headline `accuracy` is in-batch pair accuracy. The control `random_head` is
    the run's own untrained model, drawn from its seed.

    Raises:
      UserError: no such model or corpus, the corpus has another tokenizer, or `out`
        holds a result that is no evaluation's.
    """
    _refuse_other_result(out)
    folder, step = find_checkpoint(model)
    experiment = read_experiment(folder, step)
    corpus = Corpus(data)
    mesh = mesh_for_scoring(experiment.mesh)
    with jax.set_mesh(mesh):
        loaded = load_model(folder, step, experiment, mesh)
        if loaded.tokens.sha256 != corpus.manifest.tokenizer_sha256:
            raise UserError(
                f"{data}: not the model's tokenizer; prepare it with --tokenizer {folder}"
            )
        heldout = Heldout(corpus, experiment.split, experiment.heldout, experiment.seed)
        figures = heldout.figures(loaded.model, mesh)
        fresh = init_reward_model(jax.random.key(experiment.seed), experiment.model)
        untrained = heldout.figures(fresh, mesh)
    controls = heldout.controls()
    headline = figures["in_batch"]
    longer = controls["longer_suffix"]["in_batch"]["pair_accuracy"]
    result = {
        "suite": "heldout",
        "model": f"{folder}@{step or INIT}",
        "n": headline["n"],
        "accuracy": headline["pair_accuracy"],
        "ci95": headline["ci95"],
        "subsets": {
            name: {"n": figures[name]["n"], "accuracy": figures[name]["pair_accuracy"]}
            for name in MEASURES
        },
        "controls": {
            "longer": longer,
            "shorter": None if longer is None else 1 - longer,
            "random_head": untrained["in_batch"]["pair_accuracy"],
            "log_likelihood": None,
            "word_overlap": controls["word_overlap"]["in_batch"]["pair_accuracy"],
            "chance": 0.5,
        },
        "heldout": {
            "candidates": experiment.heldout.candidates,
            "test": figures,
            "untrained": untrained,
            "controls": controls,
        },
    }
    make_folder(out)
    write_json(out / "result.json", result)
    return result


def _refuse_other_result(out: Path) -> None:
    if (out / "checkpoints").is_dir():
        raise UserError(f"{out}: holds a run with a result of its own; give another --out")
    path = out / "result.json"
    try:
        there = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"suite": None}
    except ValueError:  # not JSON, nor then a result of ours
        there = None
    if not isinstance(there, dict) or "suite" not in there:
        raise UserError(f"{path}: is no result of an evaluation; give another --out")
