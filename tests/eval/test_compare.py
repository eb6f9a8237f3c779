import json

import numpy as np
import pytest

from rbs_jax.errors import UserError
from rbs_jax.eval.compare import NEEDED, OF_A_BENCHMARK, compare, read_folders


def result(folder, model, rows, suite="pairs", items="same"):
    """A folder as `rbs eval` writes it, of rows (prompt, value, scores)."""
    folder.mkdir()
    fields = dict.fromkeys((*NEEDED, *OF_A_BENCHMARK))
    fields |= {"suite": suite, "model": model, "items": items, "n": len(rows), "accuracy": 0.5}
    (folder / "result.json").write_text(json.dumps(fields))
    lines = [{"id": "x", "prompt": p, "value": v, "scores": s} for p, v, s in rows]
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def rows(values, scores=None):
    scores = scores or [[v, 0.0] for v in values]
    return [(f"p{n}", v, s) for n, (v, s) in enumerate(zip(values, scores, strict=True))]


def test_two_models_on_the_same_items(tmp_path):
    one = result(tmp_path / "one", "a", rows([1, 1, 1, 1, 1, 1, 0, 1]))
    other = result(tmp_path / "other", "b", rows([0, 0, 0, 0, 0, 0, 1, 1]))
    (found,) = compare(read_folders([one, other])[0])
    assert found["models"] == ["a", "b"]
    assert (found["wins"], found["losses"], found["ties"]) == (6, 1, 1)
    assert found["p"] == pytest.approx(2 * (1 + 7) / 2**7)
    assert found["p_holm"] == found["p"]


def test_the_distance_is_that_of_the_rewards_within_prompts(tmp_path):
    scores = [[1.0, 0.0], [0.0, 1.0]]
    for name, turned in (("same", 3.0), ("opposite", -1.0)):
        one = result(tmp_path / f"{name} one", "a", rows([1, 0], scores))
        other = result(
            tmp_path / f"{name} other", "b", rows([1, 0], (turned * np.array(scores)).tolist())
        )
        (found,) = compare(read_folders([one, other])[0])
        assert found["distance"] == pytest.approx(0 if name == "same" else 1)


def test_items_of_one_prompt_are_one_try(tmp_path):
    ours = [("p", 1, [1, 0]), ("p", 1, [1, 0]), ("p", 0, [1, 0]), ("q", 0, [1, 0])]
    theirs = [("p", 0, [1, 0]), ("p", 1, [1, 0]), ("p", 0, [1, 0]), ("q", 1, [1, 0])]
    folders = [result(tmp_path / "a", "a", ours), result(tmp_path / "b", "b", theirs)]
    (found,) = compare(read_folders(folders)[0])
    assert (found["wins"], found["losses"], found["ties"]) == (1, 1, 0)


def test_p_values_are_corrected_for_all_tests(tmp_path):
    values = {"a": [1] * 8, "b": [0] * 8, "c": [1] * 8}
    folders = [result(tmp_path / name, name, rows(own)) for name, own in values.items()]
    found = compare(read_folders(folders)[0])
    assert [each["models"] for each in found] == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert [each["p"] for each in found] == pytest.approx([2 / 2**8, 1, 2 / 2**8])
    assert [each["p_holm"] for each in found] == pytest.approx([6 / 2**8, 1, 6 / 2**8])


def test_other_items_and_other_suites_are_not_compared(tmp_path):
    folders = [
        result(tmp_path / "a", "a", rows([1])),
        result(tmp_path / "b", "b", rows([0]), items="others"),
        result(tmp_path / "c", "c", rows([0]), suite="llmbar"),
    ]
    assert compare(read_folders(folders)[0]) == []


def test_results_of_one_model_are_told_apart_by_their_folders(tmp_path):
    folders = [
        result(tmp_path / "a", "model", rows([1])),
        result(tmp_path / "b", "model", rows([0])),
        result(tmp_path / "c", "model", rows([0]), suite="llmbar"),
    ]
    names = [found.name for found in read_folders(folders)[0]]
    assert names == [f"model ({tmp_path}/a)", f"model ({tmp_path}/b)", "model"]


def test_responses_that_nothing_judges_have_a_distance_alone(tmp_path):
    scores = [[1.0, 0.0, None], [0.5, 2.0, 1.0]]
    unjudged = [("p", None, scores[0]), ("q", None, scores[1])]
    folders = [result(tmp_path / name, name, unjudged, suite="responses") for name in "ab"]
    (found,) = compare(read_folders(folders)[0])
    assert (found["wins"], found["losses"], found["p"], found["distance"]) == (0, 0, 1, 0)


def test_a_run_is_told_from_a_result(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "result.json").write_text('{"checkpoint": "run@5"}')
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    one = result(tmp_path / "one", "a", rows([1]))
    results, _, runs = read_folders([str(run), one])
    assert [found.name for found in results] == ["a"]
    assert runs[0].metrics == [{"step": 1, "loss": 1.0}]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {},
            "no such file; give folders that rbs eval, rbs bon, rbs combine, rbs train wrote",
        ),
        ({"result.json": "{"}, "result.json: not valid JSON"),
        ({"result.json": "[]"}, "result.json: expected a JSON object, found list"),
        (
            {"result.json": "{}"},
            "result.json: of none of rbs eval, rbs bon, rbs combine, rbs train",
        ),
        ({"result.json": '{"suite": "pairs"}'}, "result.json: has no 'model'; run rbs eval again"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, files, said):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read_folders([str(tmp_path)])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("\n{\n", "scores.jsonl:2: not valid JSON"),
        ('{"id": "x", "prompt": "p", "value": 1}\n', "scores.jsonl: item 1 has no 'scores'"),
        (None, "scores.jsonl: holds 1 items, result.json tells of 2; run rbs eval again"),
    ],
)
def test_scores_that_are_not_of_the_result_are_refused(tmp_path, lines, said):
    folder = result(tmp_path / "one", "a", rows([1, 0]))
    scores = tmp_path / "one" / "scores.jsonl"
    whole = scores.read_text().splitlines(keepends=True)
    scores.write_text(whole[0] + whole[1][:20] if lines is None else lines)
    with pytest.raises(UserError, match=said):
        read_folders([folder])


def test_scores_beside_a_result_without_items_are_another_ones(tmp_path):
    folders = [result(tmp_path / name, name, rows([1])) for name in "ab"]
    for folder in folders:
        path = tmp_path / folder / "result.json"
        fields = json.loads(path.read_text()) | {"suite": "heldout"}
        del fields["items"]
        path.write_text(json.dumps(fields))
    assert compare(read_folders(folders)[0]) == []


def test_a_run_that_is_not_finished_has_its_curves(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "suite_pairs": 0.5}\n')
    _, _, (run,) = read_folders([str(tmp_path)])
    assert (run.fields, run.metrics) == ({}, [{"step": 1, "suite_pairs": 0.5}])
