"""`rbs eval MODEL heldout`: the three held-out figures on any prepared corpus."""

import sys
from typing import Any

import jax
from jax.sharding import Mesh

from rbs_jax.data.reader import Corpus
from rbs_jax.data.tokens import load_tokens
from rbs_jax.errors import UserError
from rbs_jax.eval.results import refuse_other_result, write_result
from rbs_jax.hosts.together import first_says, refuse_unlike
from rbs_jax.model.language import LanguageModel
from rbs_jax.sharding import mesh_for_scoring
from rbs_jax.train.heldout import MEASURES, Figures, Heldout
from rbs_jax.train.models import Found, find_model, load_model, start_model


def evaluate(model: str, data: str, out: str, language_model: str | None = None) -> dict[str, Any]:
    """Measure a model on a corpus and write OUT/result.json.

    The headline `accuracy` is in-batch pair accuracy. A language model's rewards are
    the mean log-probabilities of suffixes. The figure is inside the controls that its interval does
    not lie above. The control `random_head` is what the model
    started from: its fresh weights, or the backbone under a new head.

    Args:
      model: a MODEL.
      data: a corpus, by folder or URL.
      out: folder for the result, a path or URL; of several processes, process 0 writes it.
      language_model: a MODEL whose likelihoods are a control; None for none.

    Raises:
      UserError: no such model or corpus, the corpus has another tokenizer, or `out`
        holds a result that is no evaluation's.
    """
    first_says(lambda: refuse_other_result(out))
    found, corpus = find_model(model), Corpus(data)
    refuse_unlike(corpus.manifest.fingerprint, data)
    other = None if language_model is None else find_model(language_model)
    if other is not None and other.experiment.kind is not LanguageModel:
        raise UserError(f"--language-model {other}: is a reward model")
    for named in (found, other):
        if named is not None:
            _check_tokenizer(named, corpus)
    experiment = found.experiment
    heldout = Heldout(
        corpus, experiment.split, experiment.heldout, experiment.seed, experiment.template
    )
    mesh = mesh_for_scoring(experiment.mesh)
    with jax.set_mesh(mesh):
        figures = heldout.figures(load_model(found, mesh).model, mesh)
        likelihood = other and heldout.figures(load_model(other, mesh).model, mesh)
        untrained = _untrained(found, heldout, mesh)
    controls = heldout.controls()
    if likelihood is not None:
        controls["log_likelihood"] = likelihood
    headline = figures["in_batch"]
    longer = controls["longer_suffix"]["in_batch"]["pair_accuracy"]
    beside = {
        "longer": longer,
        "shorter": None if longer is None else 1 - longer,
        "random_head": untrained and untrained["in_batch"]["pair_accuracy"],
        "log_likelihood": likelihood and likelihood["in_batch"]["pair_accuracy"],
        "word_overlap": controls["word_overlap"]["in_batch"]["pair_accuracy"],
        "chance": 0.5,
    }
    lowest = (headline["ci95"] or [0.0])[0]
    result = {
        "suite": "heldout",
        "model": str(found),
        "n": headline["n"],
        "accuracy": headline["pair_accuracy"],
        "ci95": headline["ci95"],
        "subsets": {
            name: {"n": figures[name]["n"], "accuracy": figures[name]["pair_accuracy"]}
            for name in MEASURES
        },
        "controls": beside,
        "inside_controls": [n for n, v in beside.items() if v is not None and v >= lowest],
        "heldout": {
            "candidates": experiment.heldout.candidates,
            "test": figures,
            "untrained": untrained,
            "controls": controls,
        },
    }
    write_result(out, result)
    return result


def _check_tokenizer(found: Found, corpus: Corpus) -> None:
    if load_tokens(found.folder).sha256 != corpus.manifest.tokenizer_sha256:
        raise UserError(
            f"{corpus.folder}: not the tokenizer of {found}; "
            f"prepare it with --tokenizer {found.folder}"
        )


def _untrained(found: Found, heldout: Heldout, mesh: Mesh) -> Figures | None:
    """Figures of what the model started from; None where that is not here any more."""
    try:
        start = start_model(found.experiment, mesh)
    except UserError as error:
        print(f"rbs: no control random_head: model.init: {error}", file=sys.stderr)
        return None
    return heldout.figures(start, mesh)
