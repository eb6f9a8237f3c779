"""`rbs quickstart`: the whole story on this machine, with nothing downloaded or bundled."""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rbs_jax.data.corpus import write_corpus
from rbs_jax.data.decontaminate import RUN, without_shared_runs
from rbs_jax.data.docstrings import read_docstrings
from rbs_jax.data.grid import GridConfig
from rbs_jax.data.split import SplitConfig
from rbs_jax.data.tokens import train_tokens
from rbs_jax.errors import UserError
from rbs_jax.eval.report import heldout_table, learning_curve
from rbs_jax.experiment import DataConfig, Experiment, TrainConfig
from rbs_jax.model.config import TransformerConfig
from rbs_jax.optim import OptimConfig
from rbs_jax.train.folder import refuse_foreign
from rbs_jax.train.heldout import HeldoutConfig
from rbs_jax.train.loop import train

TRAIN = (
    "stdlib",
    "scipy",
    "jax",
    "jaxlib",
    "matplotlib",
    "mpl_toolkits",
    "huggingface_hub",
    "tensorflow_datasets",
    "fontTools",
    "pyparsing",
    "absl",
    "PIL",
    "treescope",
    "rich",
    "click",
    "grain",
    "fsspec",
    "pyarrow",
    "datasketch",
    "pygments",
    "tyro",
)
"""Those with much prose among what is always installed: what else is there changes no figure.
Not sympy, which would be a quarter: its docstrings are formulas more than prose."""
HELD_OUT = {"valid": ("flax", "orbax"), "test": ("numpy", "optax")}
"""Whole packages, chosen because each has relatives in TRAIN (scipy, jax and others)."""
FAST_TRAIN = ("stdlib", "jax")
"""What a first look trains on: enough for its few steps, and quickly read."""
VOCABULARY = 4096


def settings(corpora: Path, fast: bool) -> Experiment:
    """The run: a model of about 1M parameters, minutes on 2 CPU cores."""
    experiment = Experiment(
        data=DataConfig(
            train=(str(corpora / "train"),),
            valid=str(corpora / "valid"),
            test=str(corpora / "test"),
        ),
        split=SplitConfig(prefix_length=64, suffix_length=64),
        grid=GridConfig(prefixes=4, grids_per_step=4),
        model=TransformerConfig(vocab_size=VOCABULARY, dtype="float32", scan_layers=False),
        optim=OptimConfig(learning_rate=1e-3, warmup_steps=50, schedule="cosine", weight_decay=0.1),
        train=TrainConfig(steps=1900, log_every=10, checkpoint_every=500),
    )
    if fast:
        short = dataclasses.replace(experiment.train, steps=80)
        few = HeldoutConfig(grids=6)
        experiment = dataclasses.replace(experiment, train=short, heldout=few)
    return experiment


def gather(corpora: Path, block_length: int, train_on: Sequence[str]) -> None:
    """Write corpora/train, valid and test from the docstrings of installed packages."""
    packages = {"train": tuple(train_on)} | HELD_OUT
    texts = read_docstrings(packages)
    for name, documents in texts.items():
        print(f"{name}: {len(documents)} docstrings, {sum(map(len, documents))} characters")
        if not documents:
            raise UserError(f"no docstrings found for {name}: {', '.join(packages[name])}")
    tokens = train_tokens(texts["train"], VOCABULARY)
    for name in ("valid", "test"):
        kept = without_shared_runs(texts[name], texts["train"])
        dropped = len(texts[name]) - len(kept)
        print(f"{name}: dropped {dropped} documents that share {RUN} words in a row with training")
        texts[name] = kept
    for name, documents in texts.items():
        notes: dict[str, object] = {"packages": list(packages[name])}
        manifest = write_corpus(documents, corpora / name, tokens, block_length, notes)
        print(f"{name}: {manifest.block_count} blocks of {block_length} tokens", flush=True)


def quickstart(out: Path, fast: bool) -> dict[str, Any]:
    """Gather text, train, report; returns and writes OUT/result.json."""
    refuse_foreign(str(out))
    corpora = out / "corpora"
    experiment = settings(corpora, fast)
    if corpora.exists():
        print(f"using the corpora in {corpora}")
    else:
        block_length = experiment.split.prefix_length + experiment.split.suffix_length
        beside = out / "corpora.partial"
        shutil.rmtree(beside, ignore_errors=True)
        gather(beside, block_length, FAST_TRAIN if fast else TRAIN)
        os.replace(beside, corpora)
    result = train(experiment, out)
    learning_curve(out / "metrics.jsonl", out / "learning_curve.png")
    print(f"\ntest: docstrings of {' and '.join(HELD_OUT['test'])}, packages never trained on")
    print(heldout_table(result["test"], result["untrained"], result["controls"]))
    for what, name in {
        "figures": "result.json",
        "learning curve": "learning_curve.png",
        "metrics": "metrics.jsonl",
        "corpora": "corpora",
    }.items():
        print(f"{what}: {out / name}")
    print(f"model: {result['checkpoint']}")
    return result
