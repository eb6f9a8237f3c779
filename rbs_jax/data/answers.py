"""Prompts and responses as they stand in files."""

from collections.abc import Mapping, Sequence

from rbs_jax.data.sources import Record, checked_text, text_of
from rbs_jax.data.template import Prompt
from rbs_jax.errors import UserError


def prompt_of(record: Record, field: str = "prompt") -> Prompt:
    """A prompt: a string, or a list of {"role": str, "content": str}.

    Raises:
      UserError: it is neither, naming the line and the field.
    """
    prompt = record.fields.get(field)
    if not isinstance(prompt, list):
        return text_of(record, field)
    return checked_messages(prompt, f"{record.where}: {field}")


def checked_messages(prompt: Sequence[object], what: str) -> Prompt:
    """A prompt of messages, if it is one.

    Raises:
      UserError: it is empty, or one is no {"role": str, "content": str}, naming `what` it is.
    """
    if not prompt:
        raise UserError(f"{what} is an empty list")
    for index, message in enumerate(prompt):
        if not isinstance(message, Mapping):
            said = f'{type(message).__name__}, not {{"role", "content"}}'
            raise UserError(f"{what}[{index}] is {said}")
        for key in ("role", "content"):
            checked_text(message.get(key), f"{what}[{index}].{key}")
    return prompt  # type: ignore[return-value]  # checked above


def responses_of(record: Record, field: str = "responses") -> list[str]:
    """A list of strings, empty or not.

    Raises:
      UserError: it is none, naming the line and the field.
    """
    responses = record.fields.get(field)
    if field not in record.fields:
        text_of(record, field)  # says which fields there are
    if not isinstance(responses, list):
        raise UserError(f"{record.where}: field {field!r} must be a list of strings")
    return [
        checked_text(response, f"{record.where}: {field}[{index}]")
        for index, response in enumerate(responses)
    ]
