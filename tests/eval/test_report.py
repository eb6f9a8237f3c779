import json

from rbs_jax.eval.report import heldout_table, learning_curve
from rbs_jax.train.heldout import CONTROLS, MEASURES


def figure(accuracy, n=9):
    interval = None if accuracy is None else [accuracy - 0.1, accuracy + 0.1]
    return {
        "pair_accuracy": accuracy,
        "ci95": interval,
        "top1": 0.5,
        "top1_ci95": None,
        "instruction_accuracy": 0.75,
        "instruction_ci95": [0.625, 0.875],
        "n": n,
        "prefixes": 3,
    }


def test_a_line_below_any_control_says_so():
    trained = dict(zip(MEASURES, map(figure, (0.9, 0.6, None)), strict=True))
    controls = {control: {name: figure(0.5) for name in MEASURES} for control in CONTROLS}
    controls["word_overlap"]["same_document"] = figure(0.7)
    untrained = {name: figure(0.5) for name in MEASURES}
    lines = heldout_table(trained, untrained, controls).splitlines()
    below = {line.split()[0] for line in lines if line.endswith("below control")}
    assert below == {"same_document"}
    assert "0.900  [0.800, 1.000]" in lines[1]
    assert " - " in lines[7]


def test_each_measure_has_a_line_by_prefix():
    figures, untrained = ({name: figure(0.9) for name in MEASURES} for _ in range(2))
    controls = {control: {name: figure(0.5) for name in MEASURES} for control in CONTROLS}
    for of_measure in untrained.values():
        del of_measure["instruction_accuracy"], of_measure["instruction_ci95"]
    lines = [line.split() for line in heldout_table(figures, untrained, controls).splitlines()]
    assert len(lines) == 1 + 9
    before = "-"  # measured by a version that did not have the figure
    expected = ["in_batch", "by", "prefix", "9", "0.750", "[0.625,", "0.875]", before, "0.750"]
    assert lines[3][:9] == expected
    without = heldout_table(figures, None, controls).splitlines()
    assert all(line.split()[-4] == "-" for line in without[2::3])


def test_the_learning_curve_is_a_picture(tmp_path):
    record = {"loss": 0.7, "pair_accuracy": 0.5, "top1": 0.1}
    lines = [json.dumps(record | {"step": step}) for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    learning_curve(tmp_path / "metrics.jsonl", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
