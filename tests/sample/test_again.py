"""Candidates that are there before: what is drawn again, what stays, what is refused."""

import dataclasses
import json
import threading

import pytest

from rbs_jax.errors import UserError
from rbs_jax.sample import candidates
from rbs_jax.sample.candidates import sample
from rbs_jax.score.parts import Parts
from tests.sample.prompts import EDITED, FEW, LINES, TALK, read, records

CHANGES = ["an edit", "a prompt", "an id", "a seed", "a cut", "a line", "fewer", "more", "a model"]


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
