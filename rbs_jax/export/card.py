"""What an exported folder says of itself: where the model comes from and how it did."""

import json
from pathlib import Path
from typing import Any

from rbs_jax.convert.write import Dtype
from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, to_json
from rbs_jax.model.reward import RewardModel
from rbs_jax.storage import read_text
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.heldout import MEASURES
from rbs_jax.train.models import RECORD, Found

NONE: dict[str, Any] = {"data": None, "metrics": {}, "heldout": None}


def provenance(found: Found) -> dict[str, Any]:
    """What is known of a MODEL's making.

    Returns:
      `source`, the MODEL; `data`, the position in its corpus and the fingerprint;
      `metrics`, the held-out figures kept with the checkpoint, the mean and deviation
      of rewards among them; `heldout`, result.json's figures if they are this
      checkpoint's.

    Raises:
      UserError: the run's result.json is not one.
    """
    said = {"source": str(found), **NONE}
    if not found.step:
        return said | _kept(found)
    with Checkpoints(found.folder, keep=1) as checkpoints:
        said["data"] = checkpoints.notes(found.step)[0]
        said["metrics"] = checkpoints.metrics(found.step)
    path = f"{found.folder}/result.json"
    text = read_text(path)
    if text is not None:
        try:
            result = json.loads(text)
            if str(result.get("checkpoint")).rpartition("@")[2] == str(found.step):
                said["heldout"] = {
                    name: result[name] for name in ("test", "valid", "untrained", "controls")
                }
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{path}: not a run's result: {error!r}; remove it") from error
    return said


def _kept(found: Found) -> dict[str, Any]:
    """What an exported folder that is exported again says."""
    path = Path(found.folder) / RECORD
    if found.step is not None or not path.is_file():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    return {name: record[name] for name in NONE if name in record}


def model_card(found: Found, experiment: Experiment, dtype: Dtype, said: dict[str, Any]) -> str:
    """The README.md of an exported Hugging Face folder."""
    is_reward = experiment.kind is RewardModel
    what = "Reward model" if is_reward else "Language model"
    task = "text-classification" if is_reward else "text-generation"
    parts = [
        f"---\nlibrary_name: transformers\npipeline_tag: {task}\ntags: [rbs_jax]\n---",
        f"# {what} trained with rbs_jax",
        f"Exported from `{found}`, tensors in {dtype}.",
    ]
    parts += [_how_to_score(experiment)] if is_reward else []
    parts += [_data(said), _figures(said)]
    config = json.dumps(to_json(experiment), indent=2)
    parts.append(f"## Config\n\n```json\n{config}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def _how_to_score(experiment: Experiment) -> str:
    lines = [
        "## How to score",
        "",
        "One label, no activation: the logit is the reward. Make the text with the folder's chat",
        "template, and add no special tokens of your own; padding goes behind the text.",
        '`problem_type` is "regression", which vLLM reads to return the raw score.',
    ]
    if not experiment.template.close:
        lines += [
            "",
            "Training did not close the response's turn: apply the template to the prompt with",
            "`add_generation_prompt=True` and append the response as it is.",
        ]
    if experiment.model.head_offset:
        lines += [
            "",
            f"The head had a bias of {experiment.model.head_offset!r}, which this architecture",
            "cannot hold: add it where the value counts; an order of scores does not need it.",
        ]
    return "\n".join(lines)


def _data(said: dict[str, Any]) -> str:
    data = said["data"]
    if not data:
        return ""
    return (
        f"## Data\n\nCorpus fingerprint `{data.get('fingerprint')}`, {data.get('next_step')} steps."
    )


def _figures(said: dict[str, Any]) -> str:
    lines = []
    for name, value in said["metrics"].items():
        lines.append(f"- {name.replace('_', ' ')} (held out): {value:.4f}")
    heldout = said["heldout"] or {}
    for corpus in ("test", "valid"):
        for measure in MEASURES if heldout.get(corpus) else ():
            figure = heldout[corpus][measure]
            lines.append(
                f"- {corpus}, {measure.replace('_', ' ')}: pair accuracy "
                f"{_number(figure['pair_accuracy'])}, 95% {figure['ci95']}, n {figure['n']}"
            )
    controls = heldout.get("controls") or {}
    for control, figures in controls.items():
        said_of = ", ".join(
            f"{measure.replace('_', ' ')} {_number(figures[measure]['pair_accuracy'])}"
            for measure in MEASURES
        )
        lines.append(f"- control {control.replace('_', ' ')}: {said_of}")
    return "## Held-out figures\n\n" + "\n".join(lines) if lines else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
