"""The subcommands of `rbs` that take a MODEL: one a class, each calling one function."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from rbs_jax.errors import UserError
from rbs_jax.sample.config import SampleConfig


@dataclasses.dataclass(frozen=True)
class Score:
    """Reward every response of a .jsonl file."""

    model: Positional[str]
    """A run's folder or URL, for its newest checkpoint, or FOLDER@STEP, FOLDER@best, FOLDER@init;
    or a Hugging Face folder."""
    file: Positional[str]
    """Lines of {"prompt": str, "responses": [str, ...]}, by path or URL; a prompt may be a list of
    {"role": str, "content": str}."""
    out: str
    """A path or URL for the same lines with "scores": a number for each response, null for one
    beyond the context."""
    form: Literal["plain", "chat", "human_assistant"] | None = None
    """How prompt and response become one text; None as in training."""
    close: bool | None = None
    """Whether what ends the response's turn is part of the text; None as in training."""

    def run(self) -> None:
        from rbs_jax.score.files import score_file

        print(json.dumps(score_file(self.model, self.file, self.out, self.form, self.close)))


@dataclasses.dataclass(frozen=True)
class Eval:
    """Measure a model on a suite, beside its controls."""

    model: Positional[str]
    """A run's folder or URL, for its newest checkpoint, or FOLDER@STEP, FOLDER@best, FOLDER@init;
    or a Hugging Face folder."""
    suite: Positional[str]
    """heldout: true continuations against others, on a corpus. Or a benchmark (docs/suites.md):
    rewardbench, rewardbench2, rm_bench, rewardmath, judgebench, rmb, ppe, prmbench_pairs, llmbar;
    pairs: any file of prompt, chosen, rejected; responses: of prompt, responses, for their spread
    alone."""
    data: str
    """A path or URL: for heldout a corpus, else the benchmark's file or folder as published."""
    out: str
    """Folder for result.json, and a benchmark's scores.jsonl, a path or URL."""
    language_model: str | None = None
    """A language MODEL whose likelihoods are a control beside the others; of a benchmark None is
    the one that the run started from."""
    form: Literal["plain", "chat", "human_assistant"] | None = None
    """How a benchmark's prompt and response become one text; None as in training."""
    close: bool | None = None
    """Whether what ends the response's turn is part of that text; None as in training."""

    def run(self) -> None:
        from rbs_jax.eval.benchmark import evaluate
        from rbs_jax.eval.heldout import evaluate as on_corpus
        from rbs_jax.eval.report import benchmark_table, heldout_table, variance_table
        from rbs_jax.suites.table import SUITES

        out = self.out.rstrip("/")
        if self.suite == "heldout":
            if self.form is not None or self.close is not None:
                raise UserError("heldout is measured in training's form: leave --form, --close out")
            result = on_corpus(self.model, self.data, out, self.language_model)["heldout"]
            print(heldout_table(result["test"], result["untrained"], result["controls"]))
        elif self.suite in SUITES:
            named = self.model, self.suite, self.data, out, self.language_model
            found = evaluate(*named, self.form, self.close)
            table = variance_table({self.model: found}) if self.suite == "responses" else None
            print("\n".join((table or benchmark_table(found)).lines()))
        else:
            raise UserError(f"no suite {self.suite!r}; there are heldout, {', '.join(SUITES)}")
        print(f"{out}/result.json")


@dataclasses.dataclass(frozen=True)
class Bon:
    """Pick the best of N candidates by a model, and measure what that is worth."""

    model: Positional[str]
    """A run's folder or URL, for its newest checkpoint, or FOLDER@STEP, FOLDER@best, FOLDER@init;
    or a Hugging Face folder."""
    file: Positional[str]
    """Lines of {"prompt": str, "responses": [str, ...]}, by path or URL, and if it is known lists
    beside the responses: "correct" (bool), "answers" (str, for votes), "gold" (number), "logprob"
    (nats a token), "source" (str). Docs: docs/best_of_n.md."""
    out: str
    """Folder for result.json, scores.jsonl (for rbs combine) and best.jsonl (the picked
    responses), a path or URL."""
    checker: str | None = None
    """What decides whether a response is right, in place of "correct": gsm8k, math, ifeval,
    ifeval_loose, ifeval_instructions, ifeval_instructions_loose, toxigen, or module:function of
    your own (docs/checkers.md)."""
    sample: str | None = None
    """URL of an OpenAI-compatible server, with its /v1, to draw the candidates from: FILE then
    needs no "responses". They stay in OUT/candidates.jsonl."""
    sampling: SampleConfig = SampleConfig()
    language_model: str | None = None
    """A language MODEL whose likelihoods are a control; None is the one that the run started
    from."""
    form: Literal["plain", "chat", "human_assistant"] | None = None
    """How a prompt and a response become one text; None as in training."""
    close: bool | None = None
    """Whether what ends the response's turn is part of that text; None as in training."""

    def run(self) -> None:
        from rbs_jax.eval.best_of_n import best_of_n

        out = self.out.rstrip("/")
        drawn = self.checker, self.sample, self.sampling, self.language_model
        _print_picked(best_of_n(self.model, self.file, out, *drawn, self.form, self.close))
        print(f"{out}/result.json")


@dataclasses.dataclass(frozen=True)
class Combine:
    """Pick by the scores that several models gave in rbs bon, running none again."""

    folders: Positional[tuple[str, ...]]
    """What rbs bon wrote for the same candidates, by path or URL."""
    rule: Literal[
        "mean",
        "worst",
        "uncertainty_weighted",
        "log_sigmoid",
        "par",
        "round_robin",
        "knockout",
    ]
    """How the scores become one choice (docs/best_of_n.md has the formulas)."""
    out: str
    """Folder for result.json, chosen.jsonl (the place of each prompt's choice, from 0) and, of a
    rule that gives every candidate a value, scores.jsonl; a path or URL."""
    whiten: bool = False
    """Scale each model's scores to mean 0 and deviation 1 over all candidates first."""

    def run(self) -> None:
        from rbs_jax.eval.combine import combine

        if not self.folders:
            raise UserError("rbs combine: give the folders that rbs bon wrote")
        out = self.out.rstrip("/")
        folders = [folder.rstrip("/") for folder in self.folders]
        _print_picked(combine(folders, self.rule, out, self.whiten))
        print(f"{out}/result.json")


def _print_picked(found: dict[str, Any]) -> None:
    from rbs_jax.eval.picked import told

    print("\n\n".join("\n".join(part.lines()) for part in told(found)))


@dataclasses.dataclass(frozen=True)
class Report:
    """Put results of rbs eval, bon and combine, and runs, side by side on one page."""

    folders: Positional[tuple[str, ...]]
    """What rbs eval, rbs bon, rbs combine and rbs train wrote, by path or URL."""
    out: Path
    """Folder to write report.html and result.json to; must not exist."""

    def run(self) -> None:
        from rbs_jax.eval.overview import report

        if not self.folders:
            raise UserError("rbs report: give the folders of results")
        said = report(self.folders, self.out)
        encoding = sys.stdout.encoding or "utf-8"  # a terminal need not know every character
        print(said.encode(encoding, "backslashreplace").decode(encoding))
        print(f"\n{self.out / 'report.html'}\n{self.out / 'result.json'}")


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a model as transformers and vLLM load it, or as plain orbax does."""

    model: Positional[str]
    """A run's folder or URL, for its newest checkpoint, or FOLDER@STEP, FOLDER@best, FOLDER@init;
    or a Hugging Face folder."""
    out: Positional[Path]
    """The folder to write; must not exist."""
    format: Literal["hf", "orbax"] = "hf"
    """hf: config.json, safetensors, tokenizer, chat template and model card; orbax: the float32
    parameters as one item, and config.json."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the hf tensors; parameters are float32 here, so anything else rounds them."""
    check: bool = False
    """Score the same texts here and in transformers afterwards, as rbs check does (hf alone)."""

    def run(self) -> int | None:
        from rbs_jax.export.folder import export

        if self.check and self.format != "hf":
            raise UserError("--check compares with transformers: give --format hf")
        print(json.dumps(export(self.model, self.out, self.format, self.dtype)))
        return Check(self.model, self.out).run() if self.check else None


@dataclasses.dataclass(frozen=True)
class Check:
    """Score the same texts here and in transformers; exit status 1 if they differ."""

    model: Positional[str]
    """A MODEL: a run's folder as in rbs score, or a Hugging Face folder."""
    folder: Positional[Path]
    """A Hugging Face folder: what rbs export wrote of the model, or where it comes from."""
    tolerance: float | None = None
    """Largest difference of two scores [reward]; None for 1e-4 with float32 tensors, 0.02 with
    float16, 0.1 with bfloat16."""

    def run(self) -> int | None:
        from rbs_jax.export.check import check

        result = check(self.model, self.folder, self.tolerance)
        print(json.dumps(result))
        if result["within"]:
            return None
        said = "" if result["same_ids"] else "transformers makes other ids of the same texts; "
        said += f"scores differ by up to {result['largest_difference']:.2g}, "
        print(f"rbs: {said}tolerance {result['tolerance']:.2g}", file=sys.stderr)
        return 1
