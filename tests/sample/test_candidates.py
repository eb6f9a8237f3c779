"""Candidates from a server: what is in a line, and what a seed decides."""

import dataclasses
import json
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbs_jax.errors import UserError
from rbs_jax.hosts import together
from rbs_jax.sample import candidates
from rbs_jax.sample.candidates import sample, seed_of
from rbs_jax.sample.config import SampleConfig
from rbs_jax.storage import read_text
from tests.sample.prompts import EDITED, FEW, LINES, TALK, read, records
from tests.sample.server import answer_to


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_line_has_its_own_fields_and_its_candidates(server, out, endpoint):
    lines = [line for line in LINES if endpoint == "chat" or isinstance(line["prompt"], str)]
    config = dataclasses.replace(FEW, endpoint=endpoint, max_tokens=4, temperature=0.5, seed=7)
    sample(records(lines), server.url, str(out), config)
    assert {path for path, _ in server.asked[1:]} == {
        "/v1/chat/completions" if endpoint == "chat" else "/v1/completions"
    }
    made = read(out)
    finishes = set()
    for place, (line, own) in enumerate(zip(made, lines, strict=True)):
        name = "a" if place == 0 else place
        prompt = own["prompt"]
        if endpoint == "chat" and isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        for k in range(3):
            words, logprobs = answer_to(prompt, seed_of(7, name, own["prompt"], k), 0.5)
            assert line["responses"][k] == " ".join(words[:4])
            mean = sum(logprobs[:4]) / len(logprobs[:4])
            assert line["logprob"][k] == pytest.approx(mean, rel=1e-12)
            assert line["finish"][k] == ("stop" if len(words) <= 4 else "length")
        finishes |= set(line["finish"])
        assert line["sampled"] == {
            "model": "actor",
            "endpoint": endpoint,
            "temperature": 0.5,
            "top_p": 1.0,
            "max_tokens": 4,
            "seed": 7,
        }
        rest = {key: value for key, value in line.items() if key in own}
        assert json.dumps(rest) == json.dumps(own)
    assert finishes == {"stop", "length"}
    assert [path.name for path in out.parent.iterdir()] == ["candidates.jsonl"]
    body = server.draws[0]
    assert (body["n"], body["top_p"], body["model"]) == (1, 1.0, "actor")


def test_each_candidate_has_a_seed_of_its_own(server, out):
    same = [{"prompt": "one"}, {"prompt": "one"}, {"prompt": "two", "id": 0}]
    sample(records(same), server.url, str(out), dataclasses.replace(FEW, n=8))
    seeds = [body["seed"] for body in server.draws]
    assert len(set(seeds)) == 24
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_seeds_are_those_of_earlier_versions():
    assert seed_of(0, 0, "one", 0) == 1174580714
    assert seed_of(0, "a", TALK, 31) == 1231127397


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers() | st.text(), st.text(), st.integers(0, 99)),
        unique_by=repr,
        max_size=20,
    )
)
def test_seeds_hang_on_all_that_they_should(asked):
    assert len({seed_of(*one) for one in asked}) == len(asked)


def test_an_id_keeps_a_prompt_apart_from_its_place(server, out, tmp_path):
    named = [{"prompt": "one", "id": "a"}, {"prompt": "two", "id": "b"}]
    sample(records(named), server.url, str(out), FEW)
    sample(records(named[::-1]), server.url, str(tmp_path / "turned.jsonl"), FEW)
    assert read(out) == read(tmp_path / "turned.jsonl")[::-1]


def test_as_many_requests_at_once_as_asked_for(server, out, monkeypatch):
    """None is answered before three are there."""
    answer, three = server.answer, threading.Barrier(3)

    def together(path, body):
        if body is not None:
            three.wait(60)
        return answer(path, body)

    monkeypatch.setattr(server, "answer", together)
    server.delay = 0.01
    lines = [{"prompt": f"prompt {at}"} for at in range(15)]
    config = dataclasses.replace(FEW, n=4, at_once=3)
    sample(records(lines), server.url, str(out), config)
    assert server.most <= 3
    assert len(server.draws) == 60
    assert [line["prompt"] for line in read(out)] == [line["prompt"] for line in lines]


def test_a_slow_candidate_holds_up_no_other_prompt(server, out, monkeypatch):
    """One request hangs until five other prompts have their candidates."""
    answer, first, late = server.answer, [], []

    def slow(path, body):
        if body is not None and not first:
            first.append(body)
            deadline = time.monotonic() + 60
            while len(server.draws) < 20 and not late:
                time.sleep(0.01)
                late.extend([None] * (time.monotonic() > deadline))
        return answer(path, body)

    monkeypatch.setattr(server, "answer", slow)
    lines = [{"prompt": f"prompt {at}"} for at in range(12)]
    sample(records(lines), server.url, str(out), dataclasses.replace(FEW, at_once=2))
    assert len(read(out)) == 12
    assert not late


def test_nothing_to_ask_gives_an_empty_file(server, out):
    sample([], server.url, str(out), FEW)
    assert out.read_text() == ""
    assert server.draws == []


def test_without_logprobs_a_line_has_null(server, out):
    server.logprobs = False
    sample(records(), server.url, str(out), FEW)
    assert [line["logprob"] for line in read(out)] == [None] * 4


def test_one_candidate_without_logprobs_is_enough_for_null(server, out, monkeypatch):
    answer = server.answer

    def lacking(path, body):
        status, said = answer(path, body)
        if body is not None and body["seed"] == seed_of(0, "a", "one", 1):
            said["choices"][0]["logprobs"] = {"content": []}
        return status, said

    monkeypatch.setattr(server, "answer", lacking)
    sample(records(), server.url, str(out), FEW)
    first, *others = read(out)
    assert first["logprob"] is None
    assert all(len(line["logprob"]) == 3 for line in others)


def test_an_answer_without_text_is_an_empty_response(server, out):
    server.content, server.finish = False, None
    sample(records(), server.url, str(out), FEW)
    assert [line["responses"] for line in read(out)] == [["", "", ""]] * 4
    assert [line["finish"] for line in read(out)] == [["unknown"] * 3] * 4


def test_a_bucket_holds_candidates_too(server, bucket, monkeypatch, tmp_path):
    out = f"{bucket.url}/candidates.jsonl"
    sample(records(), server.url, out, FEW)
    sample(records(), server.url, str(tmp_path / "local.jsonl"), FEW)
    asked = len(server.asked)
    sample(records(), server.url, out, FEW)
    assert len(server.asked) == asked
    assert read_text(out) == (tmp_path / "local.jsonl").read_text()
    sample(records(EDITED), server.url, out, FEW)
    sample(records(EDITED), server.url, str(tmp_path / "local.jsonl"), FEW)
    assert len(server.asked) == asked
    assert read_text(out) == (tmp_path / "local.jsonl").read_text()


@pytest.mark.parametrize(
    ("line", "config", "said"),
    [
        ({"prompt": 3}, {}, "in.jsonl:5: field 'prompt' is int, not a string"),
        ({"prompt": TALK}, {"endpoint": "completions"}, "in.jsonl:5: the prompt is a list of mess"),
        ({"prompt": "a", "responses": ["b"]}, {}, "in.jsonl:5: has 'responses' already, a field "),
        ({"prompt": "a", "logprob": None}, {}, "in.jsonl:5: has 'logprob' already, "),
        ({"prompt": "a", "correct": [1, 0, 1]}, {}, "in.jsonl:5: has 'correct' already, "),
        ({"prompt": "a", "gold": [0.1, 2, 3]}, {}, "in.jsonl:5: has 'gold' already, a field of "),
        ({"prompt": "a", "answers": ["b"] * 3}, {}, "in.jsonl:5: has 'answers' already, "),
        ({"prompt": "a", "source": "gsm8k"}, {}, "in.jsonl:5: has 'source' already, "),
    ],
)
def test_a_line_that_cannot_be_asked_is_named_before_any_request(server, out, line, config, said):
    lines = [{"prompt": "fine"}] * 4 + [line]
    with pytest.raises(UserError, match="^" + said):
        sample(records(lines), server.url, str(out), dataclasses.replace(FEW, **config))
    assert server.asked == []
    assert not out.parent.exists()


def test_several_processes_take_what_is_whole_and_draw_nothing(server, out, monkeypatch):
    def many():
        monkeypatch.setattr(candidates, "number", lambda: 2)

    with monkeypatch.context():
        many()
        with pytest.raises(UserError, match=rf"^{out}: is not there yet, and .* by one process"):
            sample(records(), server.url, str(out), FEW)
    assert server.asked == []
    monkeypatch.setattr(candidates, "number", together.number)
    sample(records(), server.url, str(out), FEW)
    many()
    sample(records(), "http://127.0.0.1:9/v1", str(out), FEW)
    sample(records(EDITED), "http://127.0.0.1:9/v1", str(out), FEW)
    assert [line["prompt"] for line in read(out)] == [line["prompt"] for line in EDITED]
    assert read(out)[1]["answer"] == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("max_tokens", 0),
        ("at_once", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("timeout", 0.0),
    ],
)
def test_settings_that_make_no_sense_are_refused(field, value):
    with pytest.raises(UserError, match=rf"^sampling\.{field} is {value}, it "):
        SampleConfig(**{field: value})
