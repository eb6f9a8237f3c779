"""Prompt and response to one text, and that to ids: the same as a server of the model makes."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from rbs_jax.data.tokens import Tokens
from rbs_jax.errors import UserError

Form = Literal["plain", "chat", "human_assistant"]
Prompt = str | Sequence[Mapping[str, str]]
"""A string, or messages: [{"role": "user", "content": ...}, ...]."""

PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
HUMAN_ASSISTANT = (
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% endif %}{{ '\\n\\n' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'Human: ' + message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + '\\n\\n' }}"
    "{% elif message['role'] != 'system' or not loop.first %}"
    "{{ raise_exception('roles are user and assistant, at first also system, not '"
    " + message['role']) }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
"""The form that RewardBench calls Ziya."""
PREFIX, SUFFIX = "Prefix-7f3a9c", "Suffix-7f3a9c"
"""What stands for a prompt and a response where only what is around them is asked for."""


@dataclasses.dataclass(frozen=True)
class TemplateConfig:
    """How prompt and response become one text."""

    form: Form = "plain"
    """plain adds nothing; chat is the tokenizer's own chat template."""
    close: bool = True
    """Whether what ends the response's turn is part of the text, and the score read there."""

    def chosen(self, form: Form | None, close: bool | None) -> "TemplateConfig":
        """This one, but for what a command asks for; None asks for nothing."""
        return TemplateConfig(form or self.form, self.close if close is None else close)


class Wrapping(NamedTuple):
    """The ids around a prefix and its suffix."""

    before: list[int]
    between: list[int]
    after: list[int]


class Template:
    """Makes the text that a model scores, by the jinja template a server would use.

    Attributes:
      source: the jinja template.
    """

    def __init__(self, config: TemplateConfig, tokens: Tokens) -> None:
        """Compile the template of a form.

        Raises:
          UserError: the tokenizer has no chat template, or one that is no jinja.
        """
        self.source = _source(config, tokens)
        self._close, self._tokens = config.close, tokens
        self._form = "chat template" if config.form == "chat" else f"{config.form} template"
        try:
            self._template = _environment().from_string(self.source)
        except (jinja2.TemplateSyntaxError, SyntaxError) as error:
            raise UserError(f"{self._form}, line {error.lineno}: {_one_line(error)}") from error

    def render(self, prompt: Prompt, response: str) -> tuple[str, int]:
        """The whole text, and how many of its characters come before the response.

        The response starts where the text parts from what a server would have the
        model answer to. So a space that the template strips, or a word that it
        writes before answers, is no part of it.

        Raises:
          UserError: the template refuses these messages or fails on them.
        """
        messages = _messages(prompt)
        asked = self._render(messages, add_generation_prompt=True)
        if not self._close:
            return asked + response, len(asked)
        answer = {"role": "assistant", "content": response}
        text = self._render([*messages, answer], add_generation_prompt=False)
        return text, _common_start(asked, text)

    def encode(self, prompt: Prompt, response: str) -> tuple[list[int], int]:
        """The ids of the whole text, and how many belong to the prompt alone.

        A token that straddles the border counts as the response's. Special tokens'
        names are special tokens, also where the prompt or the response holds them:
        so a server reads them. Of several bos_token at the start one remains.

        Raises:
          UserError: the template refuses these messages or fails on them.
        """
        text, start = self.render(prompt, response)
        encoding = self._tokens.encode_rendered(text)
        of_prompt = 0
        for _, end in encoding.offsets:
            if end > start:
                break
            of_prompt += 1
        ids = self._with_one_bos(encoding.ids)
        return ids, max(of_prompt - (len(encoding.ids) - len(ids)), 0)

    def wrapping(self) -> Wrapping:
        """What the template puts around a prefix and its suffix, each part as ids of its own.

        Raises:
          UserError: the template changes or repeats what it is given.
        """
        text, _ = self.render(PREFIX, SUFFIX)
        holes = re.compile(f"{PREFIX}|{SUFFIX}")
        if holes.findall(text) != [PREFIX, SUFFIX]:
            raise UserError(
                f"{self._form}: does not hold a prompt and its response once each, unchanged; "
                "it cannot be put around pieces of a corpus"
            )
        parts = holes.split(text)
        # Some tokenizers write a space before a text's first word, which no later part has.
        (end_id,) = self._tokens.encode_rendered(self._tokens.end).ids
        later = [self._tokens.encode_rendered(self._tokens.end + part).ids for part in parts[1:]]
        assert all(ids[0] == end_id for ids in later)
        between, after = (ids[1:] for ids in later)
        before = self._tokens.encode_rendered(parts[0]).ids
        return Wrapping(self._with_one_bos(before), between, after)

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        try:
            return self._template.render(
                messages=messages,
                # Servers pass these two as well, and templates ask whether they are none.
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._tokens.special_tokens,
            )
        except Exception as error:  # a template is a program: it can raise anything
            raise UserError(f"{self._form}: cannot render: {_one_line(error)}") from error

    def _with_one_bos(self, ids: list[int]) -> list[int]:
        bos = self._tokens.bos_id
        start = 0
        while bos is not None and ids[start : start + 2] == [bos, bos]:
            start += 1
        return ids[start:]


def _source(config: TemplateConfig, tokens: Tokens) -> str:
    if config.form == "plain":
        return PLAIN
    if config.form == "human_assistant":
        return ("{{ bos_token }}" if tokens.adds_bos else "") + HUMAN_ASSISTANT
    if tokens.chat_template is None:
        raise UserError(
            "form chat: the tokenizer has no chat template; "
            "put a chat_template.jinja beside its tokenizer.json or choose another form"
        )
    return tokens.chat_template


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [dict(message) for message in prompt]


def _common_start(one: str, other: str) -> int:
    """How many characters two texts share at their start."""
    pairs = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other))
    return next((at for at, (left, right) in pairs if left != right), shorter)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _environment() -> jinja2.Environment:
    """Where templates run as in transformers' apply_chat_template, which servers copy."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is, without jinja's escapes for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


class _Generation(Extension):
    """The tag that marks what the model writes; here its body is rendered, no more."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """The body, with variables of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Dict:
    """All that a template may do with `dict`."""

    __call__: Callable[..., dict[Any, Any]] = staticmethod(dict)
    fromkeys = staticmethod(dict.fromkeys)


class _Namespace(Namespace):
    """A template's variables, none of them one that python itself would call."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name}")
        super().__setitem__(name, value)
