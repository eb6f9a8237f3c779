"""Scores that read no meaning, or that no reward training made: what a reward has to beat."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from rbs_jax.data.template import Prompt, Template, TemplateConfig
from rbs_jax.data.tokens import Tokens, load_tokens
from rbs_jax.data.words import share_in, words_of
from rbs_jax.errors import UserError
from rbs_jax.eval.portions import Ask, Kept, in_portions
from rbs_jax.model.config import TransformerConfig
from rbs_jax.model.language import LanguageModel
from rbs_jax.model.reward import RewardModel
from rbs_jax.score.files import deciding
from rbs_jax.score.likelihood import Likelihood, LogProb
from rbs_jax.score.scorer import Scorer
from rbs_jax.suites.items import Item, Scores, unit_of
from rbs_jax.train.models import Found, LoadedModel, find_model, start_model

HEADS = 5
"""Random heads, by seeds that follow the run's own."""


def without_model(items: Sequence[Item]) -> dict[str, Scores]:
    """Scores of the texts alone, by the control's name.

    The length of a response in characters, that turned round, and the share of the response's
    distinct words that occur in its prompt.
    """
    lengths = [np.array([len(text) for text in item.responses], float) for item in items]
    prompts = [words_of(unit_of(item.prompt)) for item in items]
    overlaps = [
        np.array([share_in(words_of(text), prompt) for text in item.responses], float)
        for item, prompt in zip(items, prompts, strict=True)
    ]
    return {
        "longer": lengths,
        "shorter": [-own for own in lengths],
        "word_overlap": overlaps,
    }


class Heads(NamedTuple):
    """Rewards by heads that were drawn, never trained."""

    scores: list[Scores]
    """By each head."""
    trunk: str
    """What they stand on."""


def asked(scorer: Scorer, heads: Sequence[np.ndarray], reward: bool = True) -> Ask:
    """Asks for the rewards by a model's own head, unless told not to, and by others, of each item.

    A response without a reward has None by each.
    """

    def ask(
        prompts: Sequence[Prompt], responses: Sequence[Sequence[str]], names: Sequence[str]
    ) -> list[Any]:
        answers = []
        for own in scorer.scored(prompts, responses, names):
            rows = [own.rewards] if reward else []
            rows += [own.features @ head_D for head_D in heads]
            answers.append([[None if np.isnan(x) else float(x) for x in row] for row in rows])
        return answers

    return ask


def random_heads(
    found: Found,
    tokens: Tokens,
    mesh: Mesh,
    template: TemplateConfig,
    items: Sequence[Item],
    own: Sequence[np.ndarray],
    heads: Sequence[np.ndarray],
    out: str,
) -> Heads:
    """Rewards by random heads on what the run started from, which is encoded once for all.

    A Hugging Face folder that no run of ours stands behind started from something that is not
    known here: its own trunk takes the place, and so where `model.init` is gone.

    Args:
      found: the model.
      tokens: its tokenizer.
      mesh: where to compute.
      template: how texts are made.
      items: what is scored.
      own: of each item the rewards by these heads on the model's own trunk [heads, responses].
      heads: each [D].
      out: folder of the results.
    """
    trunk, scores, experiment = str(found), own, found.experiment
    if found.step is not None or experiment.model.init is not None:
        try:
            start = LoadedModel(start_model(experiment, mesh), experiment, tokens)
        except UserError as error:
            print(f"rbs: random heads stand on {trunk}: model.init: {error}", file=sys.stderr)
            trunk = f"{trunk}, since model.init is gone: {error}"
        else:
            trunk = experiment.model.init or f"{found.folder}@init"
            kept = Kept(out, deciding(trunk, start, template) + str(experiment.seed))
            ask = asked(Scorer(start, mesh, template), heads, reward=False)
            answers = in_portions(items, "random heads", ask, kept)
            scores = [np.array(of_item, float) for of_item in answers]
    return Heads([[of_item[n] for of_item in scores] for n in range(len(heads))], trunk)


def head(seed: int, config: TransformerConfig) -> np.ndarray:
    """The head that a fresh model of this seed has, without its trunk, [D]."""
    drawn = _drawn(jax.random.key(seed), config)
    return np.asarray(jax.sharding.reshard(drawn, jax.sharding.PartitionSpec()))


@partial(jax.jit, static_argnames="config")
def _drawn(key: jax.Array, config: TransformerConfig) -> jax.Array:
    return RewardModel(key, config).head[...]


def language_model_of(found: Found, named: str | None) -> Found | None:
    """The language model to ask: the one named, or what the run started from if it is one.

    Raises:
      UserError: the one named is none, or is not there.
    """
    if named is not None:
        other = find_model(named)
        if other.experiment.kind is not LanguageModel:
            raise UserError(f"--language-model {other}: is a reward model")
        return other
    init = found.experiment.model.init
    try:
        begun = None if init is None else find_model(init)
    except UserError as error:
        print(f"rbs: no control log_likelihood: model.init: {error}", file=sys.stderr)
        return None
    return begun if begun is not None and begun.experiment.kind is LanguageModel else None


def tokens_for(language: Found, tokens: Tokens, template: TemplateConfig) -> Tokens:
    """The tokenizer and template of a language model: the reward model's, if that is the same one.

    So that both read the same texts, also where only one of the two has a chat template.

    Raises:
      UserError: it is another one, and lacks what the template needs.
    """
    own = load_tokens(language.folder)
    if own.sha256 == tokens.sha256:
        return tokens
    try:
        Template(template, own)
    except UserError as error:
        raise UserError(f"the language model {language}: {error}; or give --form plain") from error
    return own


def likelihoods(language: Likelihood, items: Sequence[Item], kept: Kept) -> dict[str, Scores]:
    """Log-probabilities of responses given their prompts [nats], by the control's name.

    Summed over a response's tokens, their mean, and the sum less that without the prompt.
    """

    def ask(
        prompts: Sequence[Prompt], responses: Sequence[Sequence[str]], names: Sequence[str]
    ) -> list[Any]:
        found = language.score(prompts, responses, names)
        return [[None if p is None else list(p) for p in own] for own in found]

    found = in_portions(items, "log-likelihoods", ask, kept)
    kinds = {
        "log_likelihood": lambda p: p.total,
        "log_likelihood_mean": lambda p: p.total / p.tokens,
        "log_likelihood_minus_unconditional": lambda p: p.total - p.unconditional,
    }
    return {
        name: [
            np.array([np.nan if p is None else value(LogProb(*p)) for p in own], float)
            for own in found
        ]
        for name, value in kinds.items()
    }
