"""What a corpus is made of, as one value: sources, fields, filters, order, blocks."""

import dataclasses
import math
import re
from typing import Any, Literal

from rbs_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a corpus is made of documents; kept in its manifest."""

    sources: tuple[str, ...] = ()
    """Files, folders or globs of them, local or in a bucket (s3://, gs://): .jsonl, .jsonl.gz,
    .jsonl.zst, .parquet, .txt, ArrayRecord, TFDS data sets."""
    tokenizer: str = ""
    """A tokenizer.json, the folder that holds one (a corpus or a run does), or train:VOCAB."""
    block_length: int = 128
    """Ids of a block, at least prefix + suffix [tokens]."""
    overlap: int = 0
    """Ids that a block shares with the one before it [tokens]."""
    text_field: str = "text"
    """The field or column that holds a document's text; a .txt file is one document."""
    id_field: str | None = None
    """The field that names a document in the lists of what was dropped; None for none."""
    url_field: str = "url"
    """The field that url_pattern looks at."""
    score_field: str = "score"
    """The field that min_score looks at."""
    url_pattern: str | None = None
    """Keep documents whose url this regular expression is found in; None for all."""
    min_score: float | None = None
    """Keep documents with at least this score; None for all."""
    min_characters: int = 0
    """Keep documents of at least this length [characters]."""
    max_characters: int = 10_000_000
    """Keep documents of at most this length [characters]."""
    duplicates: Literal["keep", "exact", "near"] = "keep"
    """Drop later documents equal to an earlier one but for white space (exact), or alike too
    (near: the share of common runs of 5 words is at least `similarity`, by MinHash)."""
    similarity: float = 0.8
    """Jaccard similarity from which documents are near duplicates."""
    benchmarks: tuple[str, ...] = ()
    """Files of benchmarks: documents that share 13 words in a row with any string in them are
    dropped."""
    shuffle_seed: int | None = None
    """Shuffle documents: parts of files of some MB among all, and documents in each shard; None
    for the order of the sources."""

    def __post_init__(self) -> None:
        for name in ("sources", "benchmarks"):
            files = getattr(self, name)
            if not isinstance(files, tuple) or not all(isinstance(file, str) for file in files):
                raise UserError(f"{name} is {files!r}, it must be a tuple of strings")
        if self.duplicates not in ("keep", "exact", "near"):
            raise UserError(f"duplicates is {self.duplicates!r}, it must be keep, exact or near")
        if self.block_length < 2:
            raise UserError(
                f"block_length is {self.block_length}: a block needs a prefix and a suffix, at "
                "least 2 ids"
            )
        if not 0 <= self.overlap < self.block_length:
            raise UserError(
                f"overlap is {self.overlap}, it must be at least 0 and below block_length "
                f"{self.block_length}"
            )
        if not 0 <= self.min_characters <= self.max_characters:
            raise UserError(
                f"min_characters is {self.min_characters}, it must be at least 0 and at most "
                f"max_characters {self.max_characters}"
            )
        if not 0 < self.similarity <= 1:
            raise UserError(f"similarity is {self.similarity}, it must be above 0 and at most 1")
        if self.min_score is not None and math.isnan(self.min_score):
            raise UserError("min_score is nan: no score is at least that")
        if self.shuffle_seed is not None and self.shuffle_seed < 0:
            raise UserError(f"shuffle_seed is {self.shuffle_seed}, it must be at least 0")
        if self.url_pattern is not None:
            try:
                re.compile(self.url_pattern)
            except re.error as error:
                raise UserError(f"url_pattern {self.url_pattern!r}: {error}") from error

    @property
    def surveys(self) -> bool:
        """Whether documents are looked at before they are packed, to drop some."""
        return self.duplicates != "keep" or bool(self.benchmarks)

    def fields(self) -> dict[str, str]:
        """The fields to read, by what for: "text" and, where they are needed, others."""
        wanted = {"text": self.text_field, "id": self.id_field}
        if self.url_pattern is not None:
            wanted["url"] = self.url_field
        if self.min_score is not None:
            wanted["score"] = self.score_field
        return {what: field for what, field in wanted.items() if field is not None}

    def to_json(self) -> dict[str, Any]:
        """For the manifest."""
        fields = dataclasses.asdict(self)
        for name in ("sources", "benchmarks"):
            fields[name] = [printable(file) for file in fields[name]]
        return fields


def printable(file: str) -> str:
    """A file's name, which need not be UTF-8, as text that is."""
    return file.encode("utf-8", "backslashreplace").decode()
