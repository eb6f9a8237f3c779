"""`rbs inspect`: a corpus as a person looks at it, and the same as JSON and one page."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from rbs_jax.data.grid import GridConfig
from rbs_jax.data.manifest import Manifest
from rbs_jax.data.reader import Corpus
from rbs_jax.data.split import SplitConfig
from rbs_jax.errors import UserError
from rbs_jax.eval.corpus import measure_blocks
from rbs_jax.eval.grids import masked, show_pairs
from rbs_jax.eval.page import Note, Part, Plot, Quote, Section, Table, as_html, as_text
from rbs_jax.files import refuse_existing, whole_folder, write_atomic, write_json

SHOWN = 400
"""Of a text that is shown, at most [characters]."""
BAR = 40
"""The longest bar of a histogram in the terminal [characters]."""


def inspect(
    folder: str | Path,
    out: Path | None = None,
    split: SplitConfig | None = None,
    grid: GridConfig | None = None,
    seed: int = 0,
    pairs: int = 3,
) -> str:
    """Look at a corpus; writes OUT/result.json and OUT/report.html if told where.

    Grids are those of a training run with the same settings; a corpus too small for
    them is looked at without.

    Args:
      folder: a prepared corpus, a path or URL.
      out: a folder to write, which must not exist; None to write nothing.
      split: where blocks are cut; None for the defaults, as for `grid`.
      grid: which blocks meet.
      seed: of the order of blocks and of random breakpoints.
      pairs: prefixes to show with their true suffix and hardest negative.

    Returns:
      what the page says, as lines for a terminal.

    Raises:
      UserError: no such corpus, it is broken, a number is out of range, or `out`
        exists or cannot be written.
    """
    if pairs < 0:
        raise UserError(f"--pairs is {pairs}, it must be at least 0")
    if not 0 <= seed < 2**31:
        raise UserError(f"--seed is {seed}, it must be at least 0 and below 2**31")
    if out is not None:
        refuse_existing(out)
    result = measure(
        Corpus(folder), str(folder), split or SplitConfig(), grid or GridConfig(), seed, pairs
    )
    title, page = f"corpus {result['corpus']}", sections(result)
    if out is not None:
        with whole_folder(out) as beside:
            write_json(beside / "result.json", result)
            write_atomic(beside / "report.html", as_html(title, page))
    return as_text(title, page)


def measure(
    corpus: Corpus, name: str, split: SplitConfig, grid: GridConfig, seed: int, pairs: int
) -> dict[str, Any]:
    """Everything that `sections` shows, as result.json holds it."""
    grids: dict[str, Any] = {"masked": None, "pairs": [], "missing": None}
    result = {
        "corpus": name.encode("utf-8", "backslashreplace").decode(),  # a path need not be UTF-8
        "counts": counts(corpus.manifest),
        **measure_blocks(corpus),
        "settings": {
            "split": dataclasses.asdict(split),
            "grid": dataclasses.asdict(grid),
            "seed": seed,
        },
        "grids": grids,
    }
    try:
        grids["pairs"] = show_pairs(corpus, split, grid, seed, pairs)
        grids["masked"] = masked(corpus, split, grid, seed)
    except UserError as error:  # blocks were read before: what is wrong is their number or length
        grids["missing"] = str(error)
    return result


def counts(manifest: Manifest) -> dict[str, Any]:
    """What the manifest says, with the shards counted and what was left out by its reason."""
    return {
        "documents": manifest.document_count,
        "left_out": manifest.left_out,
        "broken_files": list(manifest.broken_files),
        "blocks": manifest.block_count,
        "block_length": manifest.block_length,
        "tokens": manifest.token_count,
        "left_over_tokens": manifest.dropped_token_count,
        "vocabulary": manifest.vocab_size,
        "end_of_document": manifest.end_of_document,
        "tokenizer_sha256": manifest.tokenizer_sha256,
        "shards": len(manifest.shards),
        "fingerprint": manifest.fingerprint,
        "settings": manifest.settings,
    }


def sections(result: Mapping[str, Any]) -> list[Section]:
    """The page of a result."""
    return [
        Section("Counts", _counts(result["counts"])),
        Section("Lengths", _lengths(result["lengths"], result["sample"])),
        Section("Duplicates", _duplicates(result["duplicates"], result["sample"])),
        Section("Grids", _grids(result["grids"], result["settings"])),
    ]


def _counts(found: Mapping[str, Any]) -> list[Part]:
    left_out = ", ".join(f"{count} {reason}" for reason, count in found["left_out"].items())
    rows = [
        ("documents", f"{found['documents']:,}"),
        ("left out", left_out or "none"),
        ("files that break off", _brief(found["broken_files"]) or "none"),
        ("blocks", f"{found['blocks']:,} of {found['block_length']:,} tokens"),
        ("tokens", f"{found['tokens']:,}, and {found['left_over_tokens']:,} left over"),
        ("tokenizer", f"{found['vocabulary']:,} ids, sha256 {found['tokenizer_sha256'][:12]}"),
        ("end of a document", found["end_of_document"]),
        ("shards", f"{found['shards']:,}"),
        ("fingerprint", found["fingerprint"]),
        *(
            (f"made with {name.replace('_', ' ')}", _brief(value))
            for name, value in found["settings"].items()
        ),
    ]
    return [Table(rows)]


def _brief(value: object) -> str:
    if not isinstance(value, list | tuple):
        return str(value)
    more = [f"and {len(value) - 3} more"] if len(value) > 3 else []
    return ", ".join([*map(str, value[:3]), *more])


def _lengths(found: Mapping[str, Any], sample: Mapping[str, int]) -> list[Part]:
    documents = found["tokens_per_document"]
    where = "all blocks."
    if sample["blocks"] < sample["of"]:
        where = (
            f"{sample['blocks']:,} of {sample['of']:,} blocks, in {sample['runs']:,} runs evenly "
            "spread: documents that start there, followed to their ends."
        )
    said = f"Measured on {where}"
    if documents["cut"]:
        said += (
            " Not counted: documents whose end a shard drops with its last few ids "
            f"({documents['cut']:,})."
        )
    figures = [
        (name.replace("_", " "), *(_figure(each[key]) for key in STATISTICS))
        for name, each in found.items()
    ]
    table = Table(figures, ("", *STATISTICS))
    return [Note(said), table, *(_histogram(name, each) for name, each in found.items())]


STATISTICS = ("n", "min", "median", "mean", "max")


def _figure(value: int | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


def _histogram(name: str, found: Mapping[str, Any]) -> Part:
    what, of = name.replace("_", " ").split(" per ")
    caption = f"{what} per {of}: how many {of}s"
    if not found["n"]:
        return Note(f"{caption}: none to count")
    buckets = list(zip(found["edges"][:-1], found["edges"][1:], strict=True))
    labels = [f"{low:,}" if high - low == 1 else f"{low:,}-{high - 1:,}" for low, high in buckets]
    most, width = max(found["counts"]), max(map(len, labels))

    def draw(axes: Axes) -> None:
        axes.bar(range(len(labels)), found["counts"], width=0.9)
        axes.set_xlim(-0.6, max(len(labels), 6) - 0.4)  # no bar as broad as a barn
        turned: dict[str, Any] = {"rotation": 30, "ha": "right"} if width > 4 else {}
        axes.set_xticks(range(len(labels)), labels, **turned)
        axes.set_xlabel(f"{what} per {of}")
        axes.set_ylabel(f"{of}s")

    rows = [
        f"{label:>{width}}  {count:>{len(f'{most:,}')},}  {'#' * -(-count * BAR // most)}"
        for label, count in zip(labels, found["counts"], strict=True)
    ]
    return Plot(caption, draw, rows)


def _duplicates(found: Mapping[str, Any], sample: Mapping[str, int]) -> list[Part]:
    rows = [
        _share("blocks that hold the same ids as another", found["repeated"], found["n"]),
        _share(
            f"blocks that share {found['run']} ids in a row with another",
            found["sharing"],
            found["n"],
        ),
    ]
    parts: list[Part] = [Table(rows, ("", "n", "of", "share"))]
    if found["sharing"] is None:
        parts.append(Note(f"Blocks are shorter than {found['run']} ids."))
    if sample["blocks"] < sample["of"]:
        said = "Blocks were compared within the sample alone, so the corpus repeats itself more."
        parts.append(Note(said))
    return parts


def _share(what: str, count: int | None, of: int) -> tuple[str, ...]:
    if count is None:
        return what, "-", f"{of:,}", "-"
    return what, f"{count:,}", f"{of:,}", f"{count / of:.2%}"


def _grids(found: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Part]:
    if found["missing"] is not None:
        return [Note(f"No grids: {found['missing']}")]
    mask, same = found["masked"], settings["grid"]["same_document"]
    takes = "takes" if same == "mask" else f"would take (it is {same} here)"
    cells = mask["rows"] * (mask["prefixes"] - 1)
    rows = [
        _share(f"pairs that same_document mask {takes} out", mask["masked"], cells),
        _share("prefixes that it leaves no negative", mask["rows_without_negative"], mask["rows"]),
    ]
    split = settings["split"]
    said = (
        f"Counted over {mask['grids']:,} grids of {mask['prefixes']:,} prefixes, seed "
        f"{settings['seed']}; prefixes of {split['prefix_length']:,} tokens "
        f"({split['breakpoint']} breakpoint), suffixes of {split['suffix_length']:,}. A pair is a "
        "prefix with the suffix of another block."
    )
    parts: list[Part] = [Note(said), Table(rows, ("", "n", "of", "share"))]
    for number, pair in enumerate(found["pairs"], start=1):
        parts += _pair(f"pair {number}", pair)
    return parts


def _pair(name: str, pair: Mapping[str, Any]) -> Sequence[Part]:
    where = f"{name} (step {pair['step']}, grid {pair['grid']}, row {pair['row']})"
    prefix = pair["prefix"]
    shown = prefix if len(prefix) <= SHOWN else "..." + prefix[-SHOWN:]
    true = f"{name}, true suffix, word overlap {pair['overlap']:.2f}"
    parts = [Quote(f"{where}, end of the prefix", shown), Quote(true, _start(pair["suffix"]))]
    if pair["hardest"] is None:
        return [*parts, Note(f"{name} has no negative: every other suffix is masked.")]
    hardest = (
        f"{name}, hardest of {pair['negatives']:,} negatives, "
        f"word overlap {pair['hardest_overlap']:.2f}"
    )
    return [*parts, Quote(hardest, _start(pair["hardest"]))]


def _start(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
