"""A model's rewards of items, and every other score of the same texts that they have to beat."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rbs_jax.data.template import Form
from rbs_jax.data.tokens import load_tokens
from rbs_jax.eval.controls import (
    HEADS,
    asked,
    head,
    language_model_of,
    likelihoods,
    random_heads,
    tokens_for,
    without_model,
)
from rbs_jax.eval.portions import Kept, in_portions
from rbs_jax.score.files import deciding
from rbs_jax.score.likelihood import Likelihood
from rbs_jax.score.scorer import Scorer
from rbs_jax.sharding import mesh_for_scoring
from rbs_jax.suites.items import Item, Scores
from rbs_jax.train.models import find_model, load_model


class Scored(NamedTuple):
    """The scores of items, NaN for none."""

    ours: Scores
    controls: dict[str, Scores]
    """Of the texts alone, and likelihoods where there is a language model to ask."""
    heads: list[Scores]
    """By each random head."""
    about: dict[str, Any]
    """What result.json says of how they were made."""


def score_beside_controls(
    items: Sequence[Item],
    out: str,
    model: str,
    language_model: str | None,
    form: Form | None,
    close: bool | None,
) -> Scored:
    """Score items by a model, random heads and a language model, one after another.

    Args:
      items: what to score.
      out: folder of the results, where scores are kept.
      model: a MODEL.
      language_model: a MODEL whose likelihoods are a control; None for the one that the model
        started from, if it was one.
      form: how prompt and response become one text; None as in training.
      close: whether what ends the response's turn is part of it; None as in training.

    Raises:
      UserError: no such model, or an item that cannot be scored.
    """
    found = find_model(model)
    template = found.experiment.template.chosen(form, close)
    tokens = load_tokens(found.folder)
    language = language_model_of(found, language_model)
    language_tokens = None if language is None else tokens_for(language, tokens, template)
    mesh = mesh_for_scoring(found.experiment.mesh)
    with jax.set_mesh(mesh):
        loaded = load_model(found, mesh)
        seeds = [found.experiment.seed + n for n in range(HEADS)]
        drawn = [head(seed, found.experiment.model) for seed in seeds]
        kept = Kept(out, deciding(str(found), loaded, template) + str(seeds))
        rewards = in_portions(items, "rewards", asked(Scorer(loaded, mesh, template), drawn), kept)
        del loaded  # two models at once may not fit
        own_heads = [np.array(own[1:], float) for own in rewards]
        heads = random_heads(found, tokens, mesh, template, items, own_heads, drawn, out)
        controls = without_model(items)
        if language is not None:
            other = load_model(language, mesh)._replace(tokens=language_tokens or tokens)
            kept = Kept(out, deciding(str(language), other, template))
            controls |= likelihoods(Likelihood(other, mesh, template), items, kept)
    ours = [np.array(own[0], float) for own in rewards]
    about = {
        "model": str(found),
        "template": dataclasses.asdict(template),
        "max_length": found.experiment.model.max_positions,
        "dtype": found.experiment.model.dtype,
        "random_heads_on": heads.trunk,
        "language_model": None if language is None else str(language),
        "unscored": int(sum(np.isnan(scores).sum() for scores in ours)),
    }
    return Scored(ours, controls, heads.scores, about)
