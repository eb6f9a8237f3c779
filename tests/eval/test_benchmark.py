import json

import jax
import numpy as np
import pytest

from rbs_jax.cli import main
from rbs_jax.errors import UserError
from rbs_jax.eval.benchmark import digest, evaluate, read_items, watched
from rbs_jax.eval.controls import HEADS
from rbs_jax.model.reward import RewardModel
from rbs_jax.score.likelihood import Likelihood
from rbs_jax.score.scorer import Scorer
from rbs_jax.suites.table import SUITES
from rbs_jax.train.models import find_model, load_model, start_model
from tests.eval.conftest import SIZES


@pytest.fixture(scope="module")
def result(runs, pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("eval") / "one"
    return evaluate(str(runs / "one"), "pairs", str(pairs), str(out)), out


def wins(scores):
    """Pair accuracy of the rows' mean, by the plain definition."""
    values = []
    for right, *wrong in scores:
        values.append(np.mean([(right > w) + 0.5 * (right == w) for w in wrong]))
    return np.mean(values)


def texts(pairs):
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    many = [r["rejected"] if isinstance(r["rejected"], list) else [r["rejected"]] for r in rows]
    return [r["prompt"] for r in rows], [[r["chosen"], *m] for r, m in zip(rows, many, strict=True)]


def test_the_figures_are_those_of_the_scores(result, runs, pairs):
    found, out = result
    prompts, responses = texts(pairs)
    expected = Scorer(str(runs / "one")).score(prompts, responses)
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    for line, own in zip(lines, expected, strict=True):
        assert line["scores"] == pytest.approx(own, rel=1e-5, abs=1e-6)
    assert lines[0] | {"scores": 0, "value": 0, "prompt": ""} == {
        "id": "row 0",
        "subset": "a",
        "right": 1,
        "prompt": "",
        "scores": 0,
        "value": 0,
    }
    assert found["accuracy"] == pytest.approx(wins(expected))
    assert found["accuracy"] == pytest.approx(np.mean([line["value"] for line in lines]))
    assert (found["n"], found["prompts"], found["unscored"]) == (24, 12, 0)
    assert json.loads((out / "result.json").read_text()) == found


def test_controls_by_text_are_those_of_the_texts(result, pairs):
    controls = result[0]["controls"]
    prompts, responses = texts(pairs)
    assert controls["longer"] == pytest.approx(wins([[len(t) for t in own] for own in responses]))
    assert controls["shorter"] == pytest.approx(1 - controls["longer"])
    shared = [
        [len(set(t.split()) & set(prompt.split())) / len(set(t.split())) for t in own]
        for prompt, own in zip(prompts, responses, strict=True)
    ]
    assert controls["word_overlap"] == pytest.approx(wins(shared))
    assert controls["chance"] == 0.5


def test_random_heads_stand_on_what_the_run_started_from(result, runs, pairs, mesh):
    found = find_model(str(runs / "one"))
    assert result[0]["random_heads_on"] == f"{runs}/language@7"
    loaded = load_model(found, mesh)
    own = Scorer(loaded._replace(model=start_model(found.experiment, mesh)), mesh)
    prompts, responses = texts(pairs)
    assert len(result[0]["random_heads"]) == HEADS
    assert result[0]["random_heads"][0] == pytest.approx(wins(own.score(prompts, responses)))
    assert result[0]["controls"]["random_head"] == pytest.approx(np.mean(result[0]["random_heads"]))
    assert len(set(result[0]["random_heads"])) > 1


def test_a_fresh_run_has_its_own_init_under_the_first_random_head(runs, pairs, tmp_path, mesh):
    alone = str(runs / "alone")
    found = evaluate(alone, "pairs", str(pairs), str(tmp_path / "out"))
    assert found["random_heads_on"] == f"{alone}@init"
    prompts, responses = texts(pairs)
    expected = Scorer(f"{alone}@init").score(prompts, responses)
    assert found["random_heads"][0] == pytest.approx(wins(expected))
    assert found["controls"]["log_likelihood"] is None
    assert found["language_model"] is None


def test_likelihoods_are_of_the_language_model_that_the_run_started_from(result, runs, pairs):
    prompts, responses = texts(pairs)
    expected = Likelihood(str(runs / "language")).score(prompts, responses)
    controls = result[0]["controls"]
    assert result[0]["language_model"] == f"{runs}/language@7"
    for name, value in {
        "log_likelihood": lambda p: p.total,
        "log_likelihood_mean": lambda p: p.total / p.tokens,
        "log_likelihood_minus_unconditional": lambda p: p.total - p.unconditional,
    }.items():
        assert controls[name] == pytest.approx(wins([[value(p) for p in own] for own in expected]))


def test_a_source_that_is_gone_gives_way_to_the_models_own_trunk(
    runs, pairs, tmp_path, mesh, monkeypatch, capsys
):
    monkeypatch.setattr(
        "rbs_jax.eval.controls.start_model", lambda *_: (_ for _ in ()).throw(UserError("gone"))
    )
    found = evaluate(str(runs / "alone"), "pairs", str(pairs), str(tmp_path / "out"))
    assert "rbs: random heads stand on" in capsys.readouterr().err
    assert found["random_heads_on"] == f"{runs}/alone@7, since model.init is gone: gone"
    loaded = load_model(find_model(str(runs / "alone")), mesh)
    head = jax.jit(RewardModel, static_argnums=1)(jax.random.key(0), SIZES).head
    model = jax.tree.map(lambda x: x, loaded.model)
    model.head[...] = head[...]
    scores = Scorer(loaded._replace(model=model), mesh).score(*texts(pairs))
    assert found["random_heads"][0] == pytest.approx(wins(scores))


def test_responses_beyond_the_context_lose_and_are_counted(runs, tmp_path):
    rows = [
        {"prompt": "abcd", "chosen": "abcd " * 60, "rejected": "x", "id": 1},
        {"prompt": "abcd", "chosen": "x", "rejected": "abcd " * 60, "id": 2},
    ]
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = evaluate(str(runs / "one"), "pairs", str(file), str(tmp_path / "out"))
    assert (found["accuracy"], found["unscored"], found["n"]) == (0, 2, 2)
    lines = (tmp_path / "out" / "scores.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["scores"][0] is None
    assert found["calibration"] | {"bins": []} == found["calibration"] | {
        "bins": [],
        "n": 0,
        "left_out": 2,
    }


def test_another_form_is_scored_where_it_is_asked_for(result, runs, pairs, tmp_path):
    out = str(tmp_path / "out")
    found = evaluate(str(runs / "one"), "pairs", str(pairs), out, form="human_assistant")
    assert found["template"] == {"form": "human_assistant", "close": True}
    assert found["items"] == result[0]["items"]
    lines = [
        [json.loads(line)["scores"] for line in (folder / "scores.jsonl").read_text().splitlines()]
        for folder in (result[1], tmp_path / "out")
    ]
    assert lines[0] != lines[1]


def test_responses_that_nothing_judges_have_a_spread_and_no_accuracy(runs, tmp_path):
    file = tmp_path / "responses.jsonl"
    rows = [{"prompt": "abcd", "responses": ["a b", "c d e", "f"]}, {"prompt": "", "responses": []}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = evaluate(str(runs / "one"), "responses", str(file), str(tmp_path / "out"))
    scores = json.loads((tmp_path / "out" / "scores.jsonl").read_text().splitlines()[0])["scores"]
    assert found["accuracy"] is None
    assert found["controls"] is None
    assert found["reward_variance"]["raw"]["mean"] == pytest.approx(np.var(scores, ddof=1))
    assert found["reward_variance"]["prompts"] == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["one", "nonsense", "--data", "x"], "no suite 'nonsense'; there are heldout, pairs, "),
        (
            ["one", "pairs", "--data", "absent.jsonl"],
            "absent.jsonl: no such file or folder; pairs: any",
        ),
        (["one", "pairs", "--data", "empty.jsonl"], "empty.jsonl: holds no row"),
        (
            ["one", "pairs", "--data", "bad.jsonl"],
            "bad.jsonl:1: no field 'rejected'; fields here",
        ),
        (["language", "pairs", "--data", "good.jsonl"], "a language model has no rewards"),
        (
            ["one", "pairs", "--data", "good.jsonl", "--language-model", "other"],
            "--language-model other@7: is a reward model",
        ),
        (["one", "heldout", "--data", "x", "--form", "plain"], "leave --form, --close out"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(
    runs, pairs, tmp_path, monkeypatch, capsys, command, said
):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "other", "language"):
        (tmp_path / name).symlink_to(runs / name)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "p", "chosen": "c"}\n')
    (tmp_path / "good.jsonl").write_bytes(pairs.read_bytes())
    assert main(["eval", *command, "--out", "out"]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("rbs:"))
    assert said in line
    assert not (tmp_path / "out").exists()


def test_the_help_names_every_suite(capsys):
    with pytest.raises(SystemExit):
        main(["eval", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in SUITES)


def test_the_command_prints_the_table_and_where_the_result_is(runs, pairs, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["eval", str(runs / "one"), "pairs", "--data", str(pairs), "--out", out]) == 0
    printed = capsys.readouterr()
    assert "word overlap" in printed.out.splitlines()[0]
    assert printed.out.splitlines()[1].startswith("all rows")
    assert printed.out.endswith(f"{out}/result.json\n")
    assert main(["eval", str(runs / "one"), "pairs", "--data", str(pairs), "--out", out]) == 0
    assert main(["eval", str(runs / "one"), "pairs", "--data", str(pairs), "--out", f"{runs}/one"])
    assert "holds a run with a result of its own" in capsys.readouterr().err


def test_watched_suites_have_the_accuracy_of_an_evaluation(result, runs, pairs, mesh):
    watch = watched([f"pairs={pairs}"], 7)
    assert (watch.every, watch.suites) == (7, {"pairs": result[0]["items"]})
    found = watch.measure(load_model(find_model(str(runs / "one")), mesh), mesh)
    assert found == {"pairs": {name: result[0][name] for name in ("n", "accuracy", "ci95")}}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("pairs", "--suites pairs: give SUITE=PATH"),
        ("other=x", "--suites other=x: give SUITE=PATH, SUITE one of pairs"),
        ("pairs=", "--suites pairs=: give SUITE=PATH"),
        ("pairs=absent.jsonl", "absent.jsonl: no such file or folder"),
    ],
)
def test_a_suite_that_cannot_be_watched_is_named(named, said):
    with pytest.raises(UserError, match=said):
        watched([named], 1)


def test_responses_without_a_judgement_cannot_be_watched(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"prompt": "p", "responses": ["a", "b"]}\n')
    with pytest.raises(UserError, match="responses has no accuracy to follow"):
        watched([f"responses={tmp_path}/r.jsonl"], 1)


def test_items_are_read_as_they_stand(pairs):
    items = read_items("pairs", str(pairs))
    assert [item.id for item in items] == [f"row {n}" for n in range(24)]
    prompts, responses = texts(pairs)
    assert [item.prompt for item in items] == prompts
    assert [item.responses for item in items] == responses


def test_rewardbench_has_its_own_files_too(runs, tmp_path):
    rows = [
        {"prompt": f"abcd {n}", "chosen": "efgh", "rejected": "i", "subset": "hep-cpp", "id": n}
        for n in range(3)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    found = evaluate(str(runs / "alone"), "rewardbench", str(file), str(out))
    accuracies = json.loads((out / "eval-set" / "alone@7.json").read_text())
    assert accuracies["hep-cpp"] == found["subsets"]["hep-cpp"]["accuracy"]
    assert (accuracies["chat_template"], accuracies["max_length"]) == ("plain", "64")
    scores = json.loads((out / "eval-set-scores" / "alone@7.json").read_text())
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert scores["scores_chosen"] == [line["scores"][0] for line in lines]


def test_an_exported_model_is_measured_beside_the_language_model_it_came_from(
    result, runs, pairs, tmp_path
):
    served = tmp_path / "served"
    assert main(["export", str(runs / "one"), str(served)]) == 0
    found = evaluate(str(served), "pairs", str(pairs), str(tmp_path / "out"))
    assert found["controls"] == pytest.approx(result[0]["controls"])
    assert found["random_heads_on"] == result[0]["random_heads_on"]


def test_items_are_the_same_wherever_they_are_read_from(pairs, tmp_path):
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    for row in rows:
        del row["id"]  # then it is where the row stands
    other = tmp_path / "other name.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = read_items("pairs", str(pairs))
    assert digest(items) == digest(read_items("pairs", str(other)))
    assert digest(items) != digest(items[::-1])
    assert digest(items) != digest([items[0]._replace(right=2), *items[1:]])


@pytest.mark.parametrize("field", ["id", "subset"])
def test_a_lone_surrogate_is_told_before_scoring(runs, tmp_path, field):
    row = {"prompt": "a", "chosen": "x", "rejected": "y", field: "\ud800"}
    (tmp_path / "odd.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=f"odd.jsonl:1: field '{field}' holds a lone surrogate"):
        evaluate(str(runs / "one"), "pairs", f"{tmp_path}/odd.jsonl", f"{tmp_path}/out")


def test_a_place_that_cannot_be_written_is_told_before_scoring(
    runs, pairs, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("rbs_jax.eval.benchmark.score_beside_controls", None)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("rbs_jax.eval.benchmark.refuse_other_result", lambda _: None)
    out = f"{tmp_path}/file/out"
    assert main(["eval", str(runs / "one"), "pairs", "--data", str(pairs), "--out", out]) == 2
    assert f"rbs: {out}: cannot be written: Not a directory" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_of_another_result_stays(runs, pairs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text('{"suite": "rewardbench"}')
    for stale in ("eval-set", "pref-sets-scores"):
        (out / stale).mkdir()
        (out / stale / "other.json").write_text("{}")
    evaluate(str(runs / "alone"), "pairs", str(pairs), str(out))
    assert {path.name for path in out.iterdir()} == {"kept", "result.json", "scores.jsonl"}


def test_the_spread_of_responses_is_shown(runs, tmp_path, capsys):
    row = {"prompt": "abcd", "responses": ["a b", "c d e", "f"]}
    (tmp_path / "r.jsonl").write_text(json.dumps(row) + "\n")
    command = ["eval", str(runs / "one"), "responses", "--data", f"{tmp_path}/r.jsonl"]
    assert main([*command, "--out", f"{tmp_path}/out"]) == 0
    assert "mean, whitened" in capsys.readouterr().out.splitlines()[0]
