"""What a server refuses, loses or says oddly: one line, or another try."""

import builtins
import dataclasses
import json
import socket

import pytest

from rbs_jax.bon.candidates import candidates_of
from rbs_jax.data.sources import read_jsonl
from rbs_jax.errors import UserError
from rbs_jax.sample.candidates import sample, seed_of
from rbs_jax.sample.config import SampleConfig
from rbs_jax.sample.server import RETRIES, _mean_logprob
from tests.sample.prompts import read, records

FEW = SampleConfig(n=2, at_once=2, timeout=60.0)
NAMED = dataclasses.replace(FEW, actor="actor")


@pytest.fixture
def refused(server, tmp_path):
    """The one line that a call ends with."""

    def call(config=NAMED, url=None):
        with pytest.raises(UserError) as caught:
            sample(records(), url or server.url, str(tmp_path / "out.jsonl"), config)
        said = str(caught.value)
        assert "\n" not in said
        assert not (tmp_path / "out.jsonl").exists()
        return said

    return call


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_what_passes_is_tried_again(server, tmp_path, status):
    server.fails[status] = 3
    sample(records(), server.url, str(tmp_path / "out.jsonl"), FEW)
    assert len(read(tmp_path / "out.jsonl")) == 4
    assert len(server.asked) == 1 + 8 + 3


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "400: as you asked; asked for in.jsonl:1"),
        (401, "401: as you asked; set $OPENAI_API_KEY to a key that it takes"),
        (403, "403: as you asked; set $OPENAI_API_KEY to a key that it takes"),
        (404, "404: as you asked; does the URL end in /v1, is --sampling.actor a model's?"),
        (429, "429: as you asked; give fewer --sampling.at-once, or wait"),
        (500, "500: as you asked; what the server itself prints may say more"),
    ],
)
def test_what_does_not_pass_ends_in_the_servers_own_words(server, refused, status, said):
    server.fails[status] = -1
    server.says = "as\nyou asked"
    assert refused() == f"{server.url}: {said}"
    again = status in (429, 500)
    assert server.draws.count(server.draws[0]) == (1 + RETRIES if again else 1)


def test_a_long_complaint_is_cut(server, refused):
    server.fails[400], server.says = -1, "x" * 5000
    assert f"{'x' * 300}...; asked" in refused()


def test_an_unknown_model_is_the_servers_to_name(server, refused):
    said = refused(dataclasses.replace(FEW, actor="ghost"))
    assert "404: The model `ghost` does not exist.; does the URL end in /v1" in said


def test_of_several_models_one_must_be_named(server, refused, tmp_path):
    server.models = ["actor", "judge"]
    said = refused(FEW)
    assert said == f"{server.url}: has 2 models (actor, judge); name one with --sampling.actor"
    judge = dataclasses.replace(FEW, actor="judge")
    sample(records(), server.url, str(tmp_path / "out.jsonl"), judge)
    assert read(tmp_path / "out.jsonl")[0]["sampled"]["model"] == "judge"


def test_a_server_without_a_model(server, refused):
    server.models = []
    assert refused(FEW) == f"{server.url}: lists no model; name one with --sampling.actor"


def test_nobody_there(refused):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        said = refused(url=url)
    assert said.startswith(f"{url}: cannot be reached: [Errno 111] Connection refused; is the")


@pytest.mark.parametrize("url", ["localhost:8000/v1", "nowhere.invalid/v1", "http://[::1/v1", "x"])
def test_no_url(refused, url):
    said = refused(url=url)
    assert said.startswith(f"{url}: no URL of a server: ")
    assert said.endswith("; give one as http://localhost:8000/v1")


def test_a_connection_that_is_always_closed(server, refused):
    server.fails[0] = -1
    assert refused().startswith(f"{server.url}: cannot be reached: Server disconnected")


def test_no_answer_in_time(server, refused):
    server.hangs.set()
    said = refused(dataclasses.replace(NAMED, timeout=0.05))
    assert said.startswith(f"{server.url}: no answer in time; is it at work? give fewer ")
    assert "more than 0.05 s with --sampling.timeout" in said


@pytest.mark.parametrize("config", [FEW, NAMED], ids=["models", "candidates"])
@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"<html>\n  hello", "<html> hello"),
        (b"[]", "[]"),
        (b"null", "null"),
        (b'{"choices": []}', '{"choices": []}'),
        (b'"text"', '"text"'),
        (b'{"error": null}', '{"error": null}'),
        (b'data: {"choices": 3}\n\ndata: [DONE]\n\n', 'data: {"choices": 3} data: [DONE]'),
        (b"\xff\x1b[2J", "\ufffd\ufffd[2J"),
        (b"x" * 400, "x" * 300 + "..."),
        (b"", "nothing"),
    ],
)
def test_another_kind_of_server(server, refused, config, raw, shown):
    server.raw = raw
    asked = "its models" if config is FEW else "in.jsonl:1"
    assert refused(config) == (
        f"{server.url}: answers, but not as OpenAI's API: {shown}; asked for {asked}; "
        "does the URL end in /v1?"
    )


@pytest.mark.parametrize("config", [FEW, NAMED], ids=["models", "candidates"])
@pytest.mark.parametrize(
    "error", [{"message": "overloaded,\nbuy credits"}, "overloaded, buy credits"]
)
def test_an_error_in_a_good_status_is_told_as_one(server, refused, config, error):
    server.raw = json.dumps({"error": error}).encode()
    asked = "its models" if config is FEW else "in.jsonl:1"
    assert refused(config) == f"{server.url}: overloaded, buy credits; asked for {asked}"


def altered(server, seed, change):
    """One answer is not as the others are."""
    answer = server.answer

    def odd(path, body):
        status, said = answer(path, body)
        if body is not None and body["seed"] == seed:
            change(said["choices"][0])
        return status, said

    server.answer = odd


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("half \ud83d", "half \ufffd"),
        ("\ude00 of \ud83d\ude00", "\ufffd of 😀"),
        ([], ""),
        ([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}], "one two"),
        ([{"type": "text", "text": "\ud83d"}, {"type": "text", "text": "\ude00"}], "😀"),
    ],
)
def test_texts_that_can_be_read_are(server, tmp_path, content, text):
    seed = seed_of(0, 2, "three", 1)
    altered(server, seed, lambda choice: choice["message"].update(content=content))
    out = tmp_path / "out.jsonl"
    sample(records(), server.url, str(out), NAMED)
    assert read(out)[2]["responses"][1] == text
    candidates_of(list(read_jsonl(out)))  # takes the file


@pytest.mark.parametrize(
    "content",
    [
        3,
        0,
        False,
        {"text": "a"},
        ["a"],
        [{"type": "text", "text": None}],
        [{"type": "text"}],
        [{"type": "thinking", "text": "a"}],
    ],
)
def test_texts_that_cannot_be_read_name_their_line(server, refused, content):
    seed = seed_of(0, 2, "three", 1)
    altered(server, seed, lambda choice: choice["message"].update(content=content))
    said = refused()
    assert said.startswith(f"{server.url}: answers, but not as OpenAI's API: {{")
    assert "; asked for in.jsonl:3; " in said


def test_a_word_of_why_it_ended_is_a_word(server, refused):
    altered(server, seed_of(0, 2, "three", 1), lambda choice: choice.update(finish_reason=3))
    assert "; asked for in.jsonl:3; " in refused()


@pytest.mark.parametrize("logprob", [-1e300, -1e308, float("nan"), -(10**400), "-1", True])
def test_a_logprob_that_cannot_be_one_is_none(server, tmp_path, logprob):
    def change(choice):
        choice["logprobs"]["content"] = [{"logprob": logprob}] * 3

    altered(server, seed_of(0, 2, "three", 1), change)
    out = tmp_path / "out.jsonl"
    sample(records(), server.url, str(out), NAMED)
    lines = read(out)
    assert lines[2]["logprob"] is None
    assert all(len(line["logprob"]) == 2 for line in (*lines[:2], lines[3]))
    candidates_of(list(read_jsonl(out)))  # takes the file


def test_nothing_is_lost_by_a_failure(server, tmp_path):
    """The third prompt is refused; the two before it are not drawn again."""
    answer, out = server.answer, tmp_path / "out.jsonl"

    def refusing(path, body):
        if body["messages"][-1]["content"] == "three":
            return 400, {"object": "error", "message": "too long"}  # the layout of some servers
        return answer(path, body)

    server.answer = refusing
    with pytest.raises(UserError) as caught:
        sample(records(), server.url, str(out), NAMED)
    assert str(caught.value) == (
        f"{server.url}: 400: too long; asked for in.jsonl:3; what is done stays in "
        f"{out}.partial, the same command goes on"
    )
    server.answer = answer
    server.asked.clear()  # some that were under way may yet arrive
    sample(records(), server.url, str(out), NAMED)
    assert {body["messages"][-1]["content"] for body in server.draws} == {"three", "four"}


def test_the_key_is_the_environments(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    sample(records(), server.url, str(tmp_path / "out.jsonl"), FEW)
    assert set(server.keys) == {"Bearer secret"}
    assert "secret" not in (tmp_path / "out.jsonl").read_text()


def test_a_missing_package_is_named(refused, monkeypatch):
    import_it = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "rbs_jax.sample.server":
            raise ModuleNotFoundError("No module named 'openai'")
        return import_it(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    said = "--sample: No module named 'openai'; give `pip install 'rbs_jax[sample]'`"
    assert refused() == said


@pytest.mark.parametrize(
    ("given", "mean"),
    [
        ({"token_logprobs": [-1.0, -3.0]}, -2.0),
        ({"content": [{"logprob": -1.0}, {"logprob": -2.0}]}, -1.5),
        ({"content": []}, None),
        ({"content": None}, None),
        ({"token_logprobs": [None, -1.0]}, None),
        ({"token_logprobs": [float("-inf"), -1.0]}, None),
        ({"token_logprobs": [float("-inf"), float("inf")]}, None),
        ({"token_logprobs": [-1e30, -1]}, -5e29),
        (None, None),
    ],
)
def test_the_mean_of_what_is_reported(given, mean):
    assert _mean_logprob(given) == mean
