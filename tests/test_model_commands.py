"""What takes a MODEL takes it, its files and its results by URL: the same as on disk."""

import json

import jax
import optax
import pytest

from rbs_jax.cli import main
from rbs_jax.data.tokens import train_tokens
from rbs_jax.experiment import load_experiment
from rbs_jax.hosts import together
from rbs_jax.model.kinds import fresh
from rbs_jax.sharding import make_mesh
from rbs_jax.train.checkpoint import Checkpoints
from rbs_jax.train.state import init_state
from tests.gcs import Bucket
from tests.tiny import made_up_documents

CONFIG = """
from rbs_jax.experiment import Experiment, GridConfig, SplitConfig
from rbs_jax.model.config import TransformerConfig
from rbs_jax.train.heldout import HeldoutConfig

experiment = Experiment(
    split=SplitConfig(2, 2),
    grid=GridConfig(prefixes=2),
    heldout=HeldoutConfig(candidates=2, grids=4),
    model=TransformerConfig(
        vocab_size=300, width=8, mlp_width=8, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=4
    ),
)
"""
LINES = "".join(
    json.dumps({"prompt": text, "responses": ["some words", text[:20]], "id": number}) + "\n"
    for number, text in enumerate(made_up_documents(5))
)


@pytest.fixture(scope="module")
def places(google, tmp_path_factory):
    """A run of no steps on disk and in a bucket, each with a corpus and a file to score."""
    disk, bucket = tmp_path_factory.mktemp("disk"), Bucket(google, "model-commands")
    (disk / "tiny.py").write_text(CONFIG)
    experiment, texts = load_experiment(disk / "tiny.py"), made_up_documents(30)
    (disk / "run").mkdir()
    train_tokens(texts, 300).save(disk / "run")
    for file in (disk / "run").iterdir():
        bucket.put(f"run/{file.name}", file.read_bytes())
    with jax.set_mesh(make_mesh(experiment.mesh)):
        state = init_state(fresh(experiment.kind, 0, experiment.model), optax.sgd(0.1, 0.9))
        for place in (disk, bucket.url):
            with Checkpoints(f"{place}/run", keep=1) as checkpoints:
                checkpoints.save(7, state, {"next_step": 7}, experiment, {})
    (disk / "in.jsonl").write_text(LINES)
    bucket.put("in.jsonl", LINES.encode())
    (disk / "text.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    prepare = ["prepare", f"{disk}/text.jsonl", "--tokenizer", f"{disk}/run"]
    assert main([*prepare, "--out", f"{disk}/corpus", "--block-length", "4"]) == 0
    return disk, bucket


def test_scores_by_url_are_those_on_disk(places):
    disk, bucket = places
    for place in (disk, bucket.url):
        assert main(["score", f"{place}/run", f"{place}/in.jsonl", "--out", f"{place}/out"]) == 0
    assert bucket.get("out") == (disk / "out").read_bytes()
    assert len(json.loads(bucket.get("out").splitlines()[0])["scores"]) == 2
    assert not [key for key in bucket.names() if key.endswith(".partial")]


@pytest.mark.parametrize(("line", "said"), [("nonsense", "bad.jsonl:6: not valid JSON"), ("", "")])
def test_scores_are_whole_or_not_there(places, capsys, line, said):
    disk, bucket = places
    bad = bucket.put("bad.jsonl", (LINES + line).encode())
    assert main(["score", f"{disk}/run", bad, "--out", f"{bucket.url}/never"]) == (2 if said else 0)
    assert said in capsys.readouterr().err
    assert ("never" in bucket.names()) == (not said)
    assert "never.partial" not in bucket.names()


@pytest.mark.parametrize(
    ("file", "out", "said"),
    [
        ("gs://model-commands/missing.jsonl", "out", "gs://model-commands/missing.jsonl: no such"),
        ("in.jsonl", "gs://no-such-bucket/out", "gs://no-such-bucket/out: cannot be written"),
    ],
)
def test_what_is_not_there_is_told_before_the_work(places, monkeypatch, capsys, file, out, said):
    monkeypatch.chdir(places[0])
    monkeypatch.setattr("rbs_jax.score.files._score_lines", None)
    assert main(["score", "run", file, "--out", out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rbs: {said}")


def test_an_evaluation_by_url_is_that_on_disk(places, capsys):
    disk, bucket = places
    for place in (disk, bucket.url):
        out = f"{place}/eval/"
        evaluated = ["eval", f"{place}/run", "heldout", "--data", f"{disk}/corpus", "--out", out]
        assert main(evaluated) == 0
        assert f"{place}/eval/result.json\n" in capsys.readouterr().out
        assert main(evaluated) == 0, "over its own result"
    got = json.loads(bucket.get("eval/result.json"))
    expected = json.loads((disk / "eval" / "result.json").read_text())
    assert got.pop("model") == f"{bucket.url}/run@7"
    assert expected.pop("model") == f"{disk}/run@7"
    assert got == expected
    assert expected["ci95"][0] <= 0.5, "a model of no steps"
    assert {"chance", "random_head"} <= set(expected["inside_controls"])
    assert main([*evaluated[:-1], f"{bucket.url}/run"]) == 2
    assert "run: holds a run with a result of its own" in capsys.readouterr().err


def test_the_best_of_n_by_url_is_that_on_disk(places, capsys):
    disk, bucket = places
    for place in (disk, bucket.url):
        out = f"{place}/picked/"
        assert main(["bon", f"{place}/run", f"{place}/in.jsonl", "--out", out]) == 0
        assert main(["bon", f"{place}/run", f"{place}/in.jsonl", "--out", out]) == 0, "again"
        command = ["combine", f"{place}/picked", "--rule", "worst"]
        assert main([*command, "--out", f"{place}/combined"]) == 0
        assert f"{place}/combined/result.json\n" in capsys.readouterr().out
    for name in ("picked/scores.jsonl", "picked/best.jsonl", "combined/scores.jsonl"):
        assert bucket.get(name) == (disk / name).read_bytes()


def test_process_0_alone_writes(places, monkeypatch, tmp_path):
    disk = places[0]
    for module in ("score.files", "score.parts", "score.progress", "eval.results", "eval.portions"):
        monkeypatch.setattr(f"rbs_jax.{module}.is_first", lambda: False)
    assert main(["score", f"{disk}/run", f"{disk}/in.jsonl", "--out", f"{tmp_path}/out"]) == 0
    evaluated = ["eval", f"{disk}/run", "heldout", "--data", f"{disk}/corpus"]
    assert main([*evaluated, "--out", f"{tmp_path}/eval"]) == 0
    assert main(["bon", f"{disk}/run", f"{disk}/in.jsonl", "--out", f"{tmp_path}/bon"]) == 0
    assert not list(tmp_path.iterdir())


def test_processes_that_read_other_lines_are_told(places, monkeypatch, capsys, tmp_path):
    disk, out = places[0], tmp_path / "out"
    monkeypatch.setattr(together, "all_say", lambda value: [value, value, "other"])
    assert main(["score", f"{disk}/run", f"{disk}/in.jsonl", "--out", str(out)]) == 2
    said = "in.jsonl: up to line 5: is not the same for process 2 as for process 0"
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    evaluated = ["eval", f"{disk}/run", "heldout", "--data", f"{disk}/corpus"]
    assert main([*evaluated, "--out", str(out)]) == 2
    said = f"{disk}/corpus: is not the same for process 2 as for process 0"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("form", ["hf", "orbax"])
def test_a_model_in_a_bucket_is_exported_as_from_disk(places, tmp_path, form):
    disk, bucket = places
    for name, place in (("disk", disk), ("bucket", bucket.url)):
        out = str(tmp_path / name)
        assert main(["export", f"{place}/run", out, "--format", form]) == 0
    tensors = "model.safetensors" if form == "hf" else "tokenizer.json"
    expected, got = (tmp_path / name / tensors for name in ("disk", "bucket"))
    assert got.read_bytes() == expected.read_bytes()
    names = [{p.name for p in (tmp_path / name).iterdir()} for name in ("disk", "bucket")]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    "command",
    [
        ["export", "run", "gs://bucket/out"],
        ["plan", "tiny.py", "--topology", "v5e:4x4", "--out", "gs://bucket/out"],
        ["quickstart", "--out", "gs://bucket/out"],
    ],
)
def test_what_writes_to_this_machine_takes_no_url(places, monkeypatch, capsys, command):
    monkeypatch.chdir(places[0])
    assert main(command) == 2
    assert ": out must be a path of this machine, not a URL" in capsys.readouterr().err
    assert not (places[0] / "gs:").exists()


@pytest.mark.parametrize("out", ["file:///other", "s3://bucket/run", "gcs://bucket/run"])
def test_a_run_lies_where_orbax_can_write(places, monkeypatch, capsys, out):
    monkeypatch.chdir(places[0])
    assert main(["train", "tiny.py", "--data.train", "corpus", "--out", out]) == 2
    assert f"{out}: a run lies on a disk or in a bucket of Google's" in capsys.readouterr().err
