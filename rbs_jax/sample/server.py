"""A server of OpenAI's interface: one prompt in, one candidate out."""

import math
import os
from typing import Any

import httpx2
import openai

from rbs_jax.bon.candidates import number_of
from rbs_jax.data.template import Prompt
from rbs_jax.errors import UserError
from rbs_jax.sample.config import SampleConfig
from rbs_jax.sample.drawn import Candidate

RETRIES = 5
"""How often the client asks again after 429, 5xx or a lost connection, with pauses of 0.5 to 8 s
or as the server says."""
CONNECT = 5.0
"""Until a host that does not answer counts as none [seconds]."""
WORDS = 300
"""Of what a server says that are shown [characters]."""


class Server:
    """Asks one server; threads may share it."""

    def __init__(self, url: str, config: SampleConfig) -> None:
        """Asks nothing yet.

        Args:
          url: where the API begins, as http://localhost:8000/v1.
          config: how to ask.

        Raises:
          UserError: this is no URL.
        """
        self._url, self._config = url, config
        try:
            if not url.startswith(("http://", "https://")):
                raise httpx2.InvalidURL("it begins with neither http:// nor https://")
            self._client = openai.OpenAI(
                base_url=url,
                api_key=os.environ.get("OPENAI_API_KEY") or "none",  # the client insists on one
                timeout=openai.Timeout(config.timeout, connect=CONNECT),
                max_retries=RETRIES,
            )
        except httpx2.InvalidURL as error:
            raise UserError(
                f"{url}: no URL of a server: {error}; give one as http://localhost:8000/v1"
            ) from error

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def only_model(self) -> str:
        """The model that the server lists.

        Raises:
          UserError: it lists none or several, or does not answer.
        """
        response = self._ask("/models", None, "its models")
        try:
            names = [str(model["id"]) for model in response.json()["data"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._foreign(response, "its models") from error
        if len(names) != 1:
            said = f"has {len(names)} models ({', '.join(names)})" if names else "lists no model"
            raise UserError(f"{self._url}: {said}; name one with --sampling.actor")
        return names[0]

    def draw(self, model: str, prompt: Prompt, seed: int, where: str) -> Candidate:
        """One candidate.

        Args:
          model: the actor.
          prompt: a string or messages; for completions a string.
          seed: of this candidate, at least 0 and below 2^31.
          where: the prompt's place, for messages.

        Raises:
          UserError: the server refuses it, or does not answer, or not as this API does.
        """
        config = self._config
        body: dict[str, Any] = {
            "model": model,
            "n": 1,
            "temperature": config.temperature,
            "top_p": config.top_p,
            "max_tokens": config.max_tokens,
            "seed": seed,
        }
        if config.endpoint == "chat":
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            body |= {"messages": messages, "logprobs": True}
            response = self._ask("/chat/completions", body, where)
        else:  # some servers take 0, the sampled tokens' alone, for none at all
            body |= {"prompt": prompt, "logprobs": 1}
            response = self._ask("/completions", body, where)
        try:
            choice = response.json()["choices"][0]
            text = choice["message"]["content"] if config.endpoint == "chat" else choice["text"]
            return Candidate(
                _text_of(text),
                _mean_logprob(choice.get("logprobs")),
                _text_of(choice.get("finish_reason")) or "unknown",
            )
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise self._foreign(response, where) from error

    def _ask(self, path: str, body: dict[str, Any] | None, where: str) -> httpx2.Response:
        """What the server answers, as it is: the client's types promise more than servers keep."""
        try:
            if body is None:
                return self._client.get(path, cast_to=httpx2.Response)
            return self._client.post(path, cast_to=httpx2.Response, body=body)
        except openai.APITimeoutError as error:
            raise UserError(
                f"{self._url}: no answer in time; is it at work? give fewer --sampling.at-once, "
                f"or more than {self._config.timeout:g} s with --sampling.timeout"
            ) from error
        except openai.APIConnectionError as error:
            said = _short(error.__cause__ or error)
            raise UserError(
                f"{self._url}: cannot be reached: {said}; is the server up, at this URL?"
            ) from error
        except openai.APIStatusError as error:
            raise UserError(self._refusal(error, where)) from error

    def _refusal(self, error: openai.APIStatusError, where: str) -> str:
        """What the server says, and what to do."""
        status = error.status_code
        words = f"{status}: {_words_of(error.body or error.message)}"
        if status in (401, 403):
            return f"{self._url}: {words}; set $OPENAI_API_KEY to a key that it takes"
        if status == 404:
            return f"{self._url}: {words}; does the URL end in /v1, is --sampling.actor a model's?"
        if status == 429:
            return f"{self._url}: {words}; give fewer --sampling.at-once, or wait"
        if status >= 500:
            return f"{self._url}: {words}; what the server itself prints may say more"
        return f"{self._url}: {words}; asked for {where}"

    def _foreign(self, response: httpx2.Response, where: str) -> UserError:
        """An answer of status 200 without what was asked for, which may yet tell of an error."""
        try:
            error = response.json()["error"]
        except (KeyError, TypeError, ValueError):
            error = None
        if error:
            return UserError(f"{self._url}: {_words_of(error)}; asked for {where}")
        return UserError(
            f"{self._url}: answers, but not as OpenAI's API: {_short(response.text) or 'nothing'}; "
            f"asked for {where}; does the URL end in /v1?"
        )


def _text_of(content: Any) -> str:
    """From a string, a list of {"type": "text", "text": str}, or None.

    A refusal or a call of a tool has None: an answer that says nothing. A character that the
    last token has cut may come as half of a pair, which no file holds: U+FFFD takes its place.

    Raises:
      AttributeError, KeyError, TypeError, ValueError: it is none of these.
    """
    if content is None:
        return ""
    if isinstance(content, list):
        if any(part["type"] != "text" for part in content):
            raise ValueError("a part that is no text")
        content = "".join(part["text"] for part in content)
    whole: str = content.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole


def _mean_logprob(given: Any) -> float | None:
    """From {"token_logprobs": [float]} or {"content": [{"logprob": float}]}, whichever is there.

    None without tokens, or where one has no number, or none that `rbs bon` would take.
    """
    given = given or {}
    tokens = given.get("token_logprobs")
    if tokens is None:
        tokens = [token["logprob"] for token in given.get("content") or ()]
    try:
        logprobs = [number_of(token, "") for token in tokens]
        return number_of(math.fsum(logprobs) / len(logprobs), "") if logprobs else None
    except UserError:
        return None


def _words_of(error: object) -> str:
    """What the API's {"message": str}, or another thing in its place, says."""
    return _short((error.get("message") if isinstance(error, dict) else None) or error)


def _short(said: object) -> str:
    """On one line that a terminal can show."""
    words = " ".join(str(said).split())
    words = "".join(sign if sign.isprintable() else "\ufffd" for sign in words)
    return words if len(words) <= WORDS else f"{words[:WORDS]}..."
