"""Prompts and responses to ids that fit the model's context."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rbs_jax.data.answers import checked_messages
from rbs_jax.data.sources import checked_text
from rbs_jax.data.template import Prompt, Template, TemplateConfig
from rbs_jax.errors import UserError
from rbs_jax.train.models import LoadedModel


class Text(NamedTuple):
    """A response in its whole text."""

    where: int
    """Position among its prompt's responses."""
    ids: list[int]
    of_prompt: int
    """How many of the ids belong to the prompt alone."""


class Texts:
    """Makes texts by a template, each tokenised as one."""

    def __init__(
        self, loaded: LoadedModel, template: TemplateConfig | None, start_id: int | None = None
    ) -> None:
        """Compile the template.

        Args:
          loaded: whose tokenizer and context.
          template: how prompt and response become one text; None as in training.
          start_id: stands before a response that nothing else stands before, and counts as its
            prompt; None where nothing need.

        Raises:
          UserError: the tokenizer lacks what the template needs.
        """
        self._template = Template(template or loaded.experiment.template, loaded.tokens)
        self._bos_id, self._start_id = loaded.tokens.bos_id, start_id
        self._context = loaded.experiment.model.max_positions

    def of(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        names: Sequence[str] | None = None,
    ) -> Iterator[list[Text]]:
        """The texts of each prompt, without those that have no ids or cannot fit the context.

        Args:
          prompts: strings, or lists of {"role", "content"}.
          responses: those to each prompt.
          names: what to call each prompt where the template refuses it.

        Raises:
          UserError: the template refuses a prompt, or a prompt or its responses are no texts.
        """
        for index, (prompt, own) in enumerate(zip(prompts, responses, strict=True)):
            try:
                _check(prompt, own)
                made = [self._fitted(at, prompt, response) for at, response in enumerate(own)]
            except UserError as error:
                name = names[index] if names else f"prompt {index}"
                raise UserError(f"{name}: {error}") from error
            yield [text for text in made if text is not None]

    def _fitted(self, where: int, prompt: Prompt, response: str) -> Text | None:
        """The text without the start of its prompt, as far as it must go, but for its bos."""
        ids, of_prompt = self._template.encode(prompt, response)
        kept = 1 if ids and ids[0] == self._bos_id else 0
        if self._start_id is not None and of_prompt == 0:
            ids, of_prompt, kept = [self._start_id, *ids], 1, 1
        over = max(len(ids) - self._context, 0)
        needed = kept if self._start_id is None else 1
        if not ids or (over > 0 and over > of_prompt - max(kept, needed)):
            return None
        return Text(where, ids[:kept] + ids[kept + over :], of_prompt - over)


def _check(prompt: object, responses: object) -> None:
    """A list of responses that was forgotten would be scored letter by letter."""
    if isinstance(prompt, list | tuple):
        checked_messages(prompt, "the prompt")
    else:
        checked_text(prompt, "the prompt")
    if not isinstance(responses, list | tuple):
        raise UserError(f"its responses are {type(responses).__name__}, not a list of strings")
    for at, response in enumerate(responses):
        checked_text(response, f"responses[{at}]")
