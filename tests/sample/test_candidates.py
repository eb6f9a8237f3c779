"""Candidates from a server: what is in a line, what a seed decides, what is drawn again."""

import dataclasses
import json
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbs_jax.data.sources import Record
from rbs_jax.errors import UserError
from rbs_jax.hosts import together
from rbs_jax.sample import candidates
from rbs_jax.sample.candidates import sample, seed_of
from rbs_jax.sample.config import SampleConfig
from rbs_jax.score.parts import Parts
from rbs_jax.storage import read_text
from tests.sample.server import answer_to

FEW = SampleConfig(n=3, at_once=4, timeout=60.0)
TALK = [{"role": "system", "content": "Be odd."}, {"role": "user", "content": "two 🐑"}]
LINES = [
    {"prompt": "one", "id": "a", "odd": float("nan")},
    {"prompt": TALK, "id": None},
    {"prompt": "three", "answer": "3"},
    {"prompt": "four"},
]


def records(lines=LINES, file="in.jsonl"):
    return [Record(dict(line), f"{file}:{at}") for at, line in enumerate(lines, 1)]


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "new" / "candidates.jsonl"


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


def test_what_is_whole_is_taken_as_it_is(server, out):
    sample(records(), server.url, str(out), FEW)
    made, asked = out.read_bytes(), len(server.asked)
    sample(records(), server.url, str(out), FEW)
    sample(records(file="moved.jsonl"), "http://127.0.0.1:9/v1", str(out), FEW)
    faster = dataclasses.replace(FEW, actor="actor", at_once=1, timeout=1.0)
    sample(records(), server.url, str(out), faster)
    assert (out.read_bytes(), len(server.asked)) == (made, asked)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": 0.5}, r"{out}:1: was drawn with temperature 1.0, not 0.5; give another"),
        ({"top_p": 0.9}, r"{out}:1: was drawn with top_p 1.0, not 0.9; "),
        ({"max_tokens": 9}, r"{out}:1: was drawn with max_tokens 512, not 9; "),
        ({"seed": 1}, r"{out}:1: was drawn with seed 0, not 1; "),
        ({"actor": "other"}, r"{out}:1: was drawn with model actor, not other; "),
        ({"n": 2}, r"{out}: has 3 candidates a prompt, not 2; give --sampling.n 3, or another"),
    ],
)
def test_what_was_drawn_in_another_way_is_never_overwritten(server, out, change, said):
    sample(records(), server.url, str(out), FEW)
    made, asked = out.read_bytes(), len(server.asked)
    with pytest.raises(UserError, match="^" + said.format(out=out)):
        sample(records(), server.url, str(out), dataclasses.replace(FEW, **change))
    assert (out.read_bytes(), len(server.asked)) == (made, asked)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (LINES[:3], "{out}: has 4 prompts, not 3; "),
        ([*LINES[:3], {"prompt": "five"}], "{out}:4: its prompt or id is not what in.jsonl:4 has "),
        ([*LINES[:3], {"prompt": "four", "id": 4}], "{out}:4: its prompt or id is not what in."),
        ([{"prompt": "one"}, *LINES[1:]], "{out}:1: its prompt or id is not what in.jsonl:1 has "),
    ],
)
def test_what_was_drawn_for_other_prompts_is_never_overwritten(server, out, lines, said):
    sample(records(), server.url, str(out), FEW)
    with pytest.raises(UserError, match="^" + said.format(out=out)):
        sample(records(lines), server.url, str(out), FEW)


def test_a_file_of_another_kind_is_never_overwritten(server, tmp_path):
    out = tmp_path / "mine.jsonl"
    out.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    with pytest.raises(UserError, match=rf"^{out}:1: was not drawn with --sample; "):
        sample(records(), server.url, str(out), FEW)


def test_more_candidates_go_on_from_those_that_are_there(server, out, tmp_path):
    sample(records(), server.url, str(out), FEW)
    few, asked = read(out), len(server.draws)
    more = dataclasses.replace(FEW, n=5)
    sample(records(), server.url, str(out), more)
    assert len(server.draws) == asked + 4 * 2
    assert [line["responses"][:3] for line in read(out)] == [line["responses"] for line in few]
    sample(records(), server.url, str(tmp_path / "fresh.jsonl"), more)
    assert out.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()


EDITED = [
    {"prompt": "one", "new": ["\ud83d"], "id": "a"},
    {"prompt": TALK, "id": None, "answer": 2},
    {"prompt": "three", "answer": "4"},
    {"prompt": "four", "id": None},
]
"""LINES with other fields, in another order, of the same prompts and ids."""


def test_other_fields_take_their_places_without_a_request(server, out, tmp_path):
    sample(records(), server.url, str(out), FEW)
    sample(records(EDITED), "http://127.0.0.1:9/v1", str(out), FEW)
    sample(records(EDITED), server.url, str(tmp_path / "fresh.jsonl"), FEW)
    assert out.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["candidates.jsonl"]
    made = out.stat()
    sample(records(EDITED), "http://127.0.0.1:9/v1", str(out), FEW)
    assert out.stat() == made


def test_other_fields_come_with_more_candidates(server, out, tmp_path):
    sample(records(), server.url, str(out), FEW)
    asked, more = len(server.draws), dataclasses.replace(FEW, n=5)
    sample(records(EDITED), server.url, str(out), more)
    assert len(server.draws) == asked + 4 * 2
    sample(records(EDITED), server.url, str(tmp_path / "fresh.jsonl"), more)
    assert out.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"finish": ...}, "'finish' is no list of what --sample writes; mend the line, or give an"),
        ({"finish": 3}, "'finish' is no list of what --sample writes; "),
        ({"finish": ["stop"] * 2}, "'finish' has 2 values, not 3 as 'responses'; "),
        ({"responses": None}, "'responses' is no list of what --sample writes; "),
        ({"responses": ["yes", None, "no"]}, "'responses' is no list of what --sample writes; "),
        ({"responses": ["yes"]}, "'logprob' has 3 values, not 1 as 'responses'; "),
        ({"logprob": ...}, "'logprob' is no list of what --sample writes; "),
        ({"logprob": ["-1", "-2", "-3"]}, "'logprob' is no list of what --sample writes; "),
        ({"sampled": None}, "was not drawn with --sample; "),
        ({"correct": [1, 0, 1]}, "has 'correct', which --sample has not written and would lose; "),
    ],
)
@pytest.mark.parametrize("n", [3, 5])
def test_a_file_that_somebody_changed_is_not_written_over(server, out, change, said, n):
    sample(records(), server.url, str(out), FEW)
    lines = read(out)
    lines[1] = {name: v for name, v in (lines[1] | change).items() if v is not ...}
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    changed, asked = out.read_bytes(), len(server.draws)
    with pytest.raises(UserError, match=f"^{out}:2: {said}"):
        sample(records(), server.url, str(out), dataclasses.replace(FEW, n=n))
    assert (out.read_bytes(), len(server.draws)) == (changed, asked)


def stopped(server, out, monkeypatch, config=FEW):
    """The first two lines' parts are there, nothing else."""
    with monkeypatch.context() as patch:
        finish, left = candidates._Drawing._finish, [2]

        def until(drawing, line):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            finish(drawing, line)

        patch.setattr(candidates._Drawing, "_finish", until)
        others = set(threading.enumerate())  # of tests before, whose servers may never answer
        with pytest.raises(KeyboardInterrupt):
            sample(records(), server.url, str(out), config)
    for thread in set(threading.enumerate()) - others:
        if thread.name.endswith("(_work)"):  # what was under way, which nobody waits for
            thread.join()
    server.asked.clear()
    return sorted(out.with_name(out.name + ".partial").iterdir())


def asked_for(server):
    return [body["messages"][-1]["content"] for body in server.draws]


def test_a_stopped_command_draws_no_line_again(server, out, tmp_path, monkeypatch):
    assert len(stopped(server, out, monkeypatch)) == 2
    with monkeypatch.context() as patch:
        write, written = Parts.write, []

        def noted(parts, digest, text):
            written.append(json.loads(text)["prompt"])
            write(parts, digest, text)

        patch.setattr(Parts, "write", noted)
        sample(records(), server.url, str(out), FEW)
    assert written == ["three", "four"]
    assert sorted(asked_for(server)) == ["four"] * 3 + ["three"] * 3
    sample(records(), server.url, str(tmp_path / "fresh.jsonl"), FEW)
    assert out.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()
    assert not out.with_name(out.name + ".partial").exists()


CHANGES = ["an edit", "a prompt", "an id", "a seed", "a cut", "a line", "fewer", "more", "a model"]


@pytest.mark.parametrize("change", CHANGES)
def test_only_what_is_not_the_same_is_drawn_again(server, out, tmp_path, monkeypatch, change):
    first, second = stopped(server, out, monkeypatch)
    lines, config, again = list(LINES), FEW, ["four"] * 3 + ["three"] * 3
    if change == "an edit":
        lines = EDITED
    elif change == "a prompt":
        lines[0] = lines[0] | {"prompt": "five"}
        again += ["five"] * 3
    elif change == "an id":
        lines[0] = lines[0] | {"id": "b"}
        again += ["one"] * 3
    elif change == "a seed":
        config = dataclasses.replace(FEW, seed=3)
        again += ["one"] * 3 + [TALK[-1]["content"]] * 3
    elif change == "a model":
        server.models = ["other"]
        again += ["one"] * 3 + [TALK[-1]["content"]] * 3
    elif change == "a cut":
        first.write_text(first.read_text()[:-9])
        again += ["one"] * 3
    elif change == "a line":
        first.write_text('{"responses": null}\n')
        second.write_text("[]\n")
        again += ["one"] * 3 + [TALK[-1]["content"]] * 3
    elif change == "fewer":
        config, again = dataclasses.replace(FEW, n=2), ["four"] * 2 + ["three"] * 2
    else:
        config = dataclasses.replace(FEW, n=4)
        again = ["four"] * 4 + ["three"] * 4 + ["one", TALK[-1]["content"]]
    sample(records(lines), server.url, str(out), config)
    assert sorted(asked_for(server)) == sorted(again)
    sample(records(lines), server.url, str(tmp_path / "fresh.jsonl"), config)
    assert out.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()


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
