"""Prompts and responses as they stand in files."""

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
    if not prompt:
        raise UserError(f"{record.where}: field {field!r} is an empty list")
    for index, message in enumerate(prompt):
        what = f"{record.where}: {field}[{index}]"
        if not isinstance(message, dict):
            raise UserError(f'{what} is {type(message).__name__}, not {{"role", "content"}}')
        for key in ("role", "content"):
            checked_text(message.get(key), f"{what}.{key}")
    return prompt


def responses_of(record: Record, field: str = "responses") -> list[str]:
    """A list of strings, empty or not.

    Raises:
      UserError: it is none, naming the line and the field.
    """
    responses = record.fields.get(field)
    if not isinstance(responses, list):
        raise UserError(f"{record.where}: field {field!r} must be a list of strings")
    return [
        checked_text(response, f"{record.where}: {field}[{index}]")
        for index, response in enumerate(responses)
    ]
