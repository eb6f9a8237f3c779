import json

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from pyarrow import parquet
from tensorflow_datasets.core import example_serializer

from rbs_jax.data import documents as documents_module
from rbs_jax.data import lines as lines_module
from rbs_jax.data import sources as sources_module
from rbs_jax.data.documents import LeftOut, read_part
from rbs_jax.data.parts import Part
from rbs_jax.data.recipe import Recipe
from rbs_jax.errors import UserError
from rbs_jax.remote import Unreachable
from tests.data.reading import counted, documents

ROWS = [
    {"text": "of the forum", "url": "https://math.stackexchange.com/1", "score": 4.5, "key": "a"},
    {"text": "of another", "url": "https://example.org/stack", "score": 5, "key": "b"},
    {"text": "of the forum too", "url": "http://stackexchange.com/2", "score": 3, "key": 7},
    {"text": " \n", "url": "https://math.stackexchange.com/3", "score": 5, "key": "d"},
]


@pytest.fixture(params=["jsonl", "parquet"])
def source(request, tmp_path):
    path = tmp_path / f"a.{request.param}"
    if request.param == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        rows = [row | {"key": str(row["key"]), "score": float(row["score"])} for row in ROWS]
        parquet.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize(
    ("recipe", "kept", "left_out"),
    [
        ({}, [0, 1, 2], {"empty": 1}),
        ({"url_pattern": "stackexchange"}, [0, 2], {"empty": 1, "url": 1}),
        ({"url_pattern": r"^https://"}, [0, 1], {"empty": 1, "url": 1}),
        ({"min_score": 4.5}, [0, 1], {"empty": 1, "score": 1}),
        ({"min_score": 4.6}, [1], {"empty": 1, "score": 2}),
        ({"min_characters": 12}, [0, 2], {"empty": 1, "short": 1}),
        ({"max_characters": 12}, [0, 1], {"empty": 1, "long": 1}),
        ({"url_pattern": "another", "url_field": "text"}, [1], {"empty": 1, "url": 2}),
    ],
)
def test_filters_keep_what_they_say_and_count_the_rest(source, recipe, kept, left_out):
    texts, found = counted(source, **recipe)
    assert texts == [ROWS[index]["text"] for index in kept]
    assert found.counts == left_out


def test_rows_and_names_are_those_of_the_source(source):
    recipe = Recipe(url_pattern="stackexchange", id_field="key")
    found = list(read_part(Part(source, 0, None, 0), recipe, LeftOut()))
    assert [(document.row, document.id) for document in found] == [(0, "a"), (2, "7")]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"url_pattern": "x", "url_field": "link"}, "no field 'link'"),
        ({"url_pattern": "x", "url_field": "score"}, "field 'score' is "),
        ({"min_score": 1.0, "score_field": "url"}, "field 'url' is str, not a number"),
        ({"id_field": "name"}, "no field 'name'"),
    ],
)
def test_a_field_that_is_asked_for_must_be_there_and_of_its_kind(tmp_path, recipe, message):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n")
    with pytest.raises(UserError, match=f"a.jsonl:1: {message}"):
        documents(str(path), **recipe)
    assert counted(str(path), **recipe)[1].counts == {"unreadable": 1}


def test_a_score_that_is_no_number_is_below_every_bound(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "score": NaN}\n')
    assert counted(str(tmp_path / "a.jsonl"), min_score=0.0)[1].counts == {"score": 1}


def test_a_column_that_is_asked_for_must_be_in_every_parquet_file(tmp_path):
    parquet.write_table(pa.table({"text": ["one"], "url": ["u"]}), tmp_path / "a.parquet")
    parquet.write_table(pa.table({"text": ["two"]}), tmp_path / "b.parquet")
    texts, left_out = counted(str(tmp_path), url_pattern="u")
    assert texts == ["one"]
    assert left_out.broken == [f"{tmp_path}/b.parquet: no column 'url'; columns here: 'text'"]


def test_a_line_beyond_all_bounds_is_counted_and_never_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lines_module, "LONGEST", 1000)
    monkeypatch.setattr(sources_module, "LONGEST", 1000)
    monkeypatch.setattr(lines_module, "CHUNK", 64)
    path = tmp_path / "a.jsonl"
    good = json.dumps({"text": "good"}) + "\n"
    path.write_text(good + json.dumps({"text": "x" * 5000}) + "\n" + good + "y" * 1000)
    texts, left_out = counted(str(path))
    assert texts == ["good", "good"]
    assert left_out.counts == {"unreadable": 2}
    assert left_out.named[0].endswith(":2: longer than the 1000 bytes that a line may have")


def write_tfds(folder, features, rows):
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    name = "made-train.array_record-00000-of-00001"
    writer = ArrayRecordWriter(str(folder / name), "group_size:1")
    for row in rows:
        writer.write(serializer.serialize_example(features.encode_example(row)))
    writer.close()
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name="made", split="train", filetype_suffix="array_record"
    )
    info = tfds.core.SplitInfo(
        name="train", shard_lengths=[len(rows)], num_bytes=0, filename_template=template
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=[info],
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        check_data=False,
    )


def test_the_examples_of_a_tfds_data_set_are_documents(tmp_path):
    features = tfds.features.FeaturesDict(
        {
            "text": tfds.features.Text(),
            "url": tfds.features.Text(),
            "score": tfds.features.Scalar(np.float32),
        }
    )
    rows = [{name: row[name] for name in ("text", "url", "score")} for row in ROWS]
    write_tfds(tmp_path, features, rows)
    assert documents(str(tmp_path), url_pattern="forum|stackexchange", min_score=4.0) == [
        ROWS[0]["text"]
    ]


def test_records_that_are_no_json_are_counted_and_a_broken_file_named(tmp_path):
    writer = ArrayRecordWriter(str(tmp_path / "a.array_record"), "group_size:1")
    for content in (b'{"text": "one"}', b"\xff", b"[]", b'{"text": "two"}'):
        writer.write(content)
    writer.close()
    (tmp_path / "b.array_record").write_bytes(b"nothing of the kind")
    texts, left_out = counted(str(tmp_path))
    assert texts == ["one", "two"]
    assert [line.split(":")[1] for line in left_out.named] == ["record 2", "record 3"]
    assert left_out.broken == [f"{tmp_path}/b.array_record: not an ArrayRecord file, or cut short"]


def test_what_a_bucket_does_not_give_is_never_left_out(tmp_path, monkeypatch):
    def gone(*_):
        raise Unreachable("s3://b/a.jsonl: cannot be reached")
        yield

    monkeypatch.setattr(documents_module, "read_lines", gone)
    left_out = LeftOut()
    with pytest.raises(Unreachable):
        list(read_part(Part("s3://b/a.jsonl", 0, None, 0), Recipe(), left_out))
    assert not left_out.broken


def test_what_parts_leave_out_adds_up():
    total, one = LeftOut(), LeftOut()
    for number in range(5):
        one.unreadable(UserError(f"line {number}"))
    one.broken_file(UserError("file"))
    total.add(one)
    total.add(one)
    assert total.counts == {"unreadable": 10}
    assert total.named == ["line 0", "line 1", "line 2"]
    assert total.broken == ["file", "file"]
