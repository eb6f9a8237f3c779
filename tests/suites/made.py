"""Made rows on disk as publishers lay them out, and what holds for every benchmark."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from rbs_jax.errors import UserError
from rbs_jax.statistics.figures import mean


def write(file, rows):
    """Rows to a .parquet, .json or .jsonl file."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def figures(suite, items, scores):
    """Every average by name."""
    judged = suite.judge(items, [np.array(own, float) for own in scores])
    return {name: mean(judged.groups, of) for name, of in suite.averages(items).items()}


def chance_is_the_mean_over_random_scores(suite, items, draws=4000, close=0.04):
    """Averages, groups and items, within `close`."""
    draw = np.random.default_rng(1)
    expected = suite.chance(items)
    values, groups = np.zeros(len(items)), dict.fromkeys(expected.groups, 0.0)
    for _ in range(draws):
        judged = suite.judge(items, [draw.normal(size=len(item.responses)) for item in items])
        assert judged.groups.keys() == groups.keys()
        values += judged.values / draws
        for name, group in judged.groups.items():
            assert group.units == expected.groups[name].units
            groups[name] += group.values / draws
    np.testing.assert_allclose(values, expected.values, atol=close)
    for name, found in groups.items():
        np.testing.assert_allclose(found, expected.groups[name].values, atol=close)
    for weights in suite.averages(items).values():
        assert weights.keys() <= expected.groups.keys()


def refused(suite, file, row, *words):
    """A file of one row that is not as it should be: one line that says where and what."""
    with pytest.raises(UserError) as error:
        suite.read(write(file, [row]))
    said = str(error.value)
    assert str(file) in said
    assert "\n" not in said
    for word in words:
        assert word in said, said
