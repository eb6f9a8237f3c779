import pytest

from rbs_jax.errors import UserError
from rbs_jax.suites.items import Item, one_of, prompts_of, read_records
from tests.suites.made import write


def rows(path, leave_out=None):
    return [record.fields["n"] for record in read_records(str(path), leave_out)]


def test_files_below_a_folder_are_read_by_name(tmp_path):
    write(tmp_path / "b/x.json", [{"n": 3}])
    write(tmp_path / "a.parquet", [{"n": 1}, {"n": 2}])
    write(tmp_path / "c.jsonl", [{"n": 4}])
    (tmp_path / "README.md").write_text("no rows")
    assert rows(tmp_path) == [1, 2, 3, 4]


def test_what_is_left_out_is_read_where_nothing_else_is(tmp_path):
    write(tmp_path / "raw-0.json", [{"n": 1}])
    assert rows(tmp_path, "(^|/)raw-") == [1]
    write(tmp_path / "filtered-0.json", [{"n": 2}])
    assert rows(tmp_path, "(^|/)raw-") == [2]
    assert rows(tmp_path / "raw-0.json", "(^|/)raw-") == [1]


def test_folders_in_a_bucket_are_read_alike(tmp_path):
    write(tmp_path / "b/x.json", [{"n": 2}])
    write(tmp_path / "a.json", [{"n": 1}])
    assert rows(f"file://{tmp_path}") == [1, 2]
    assert rows(f"file://{tmp_path}/b/x.json") == [2]


def test_what_is_not_there_or_empty_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        rows(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no \.jsonl, .* file below it"):
        rows(tmp_path)
    with pytest.raises(UserError, match=r"none\.json: .*No such file"):
        rows(tmp_path / "none.json")
    write(tmp_path / "empty.json", [])
    with pytest.raises(UserError, match=r"empty\.json: holds no row"):
        rows(tmp_path / "empty.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"n": 1}', "expected a JSON array"), ("[1]", r"row 1: expected an object"), ("[", "read")],
)
def test_a_json_file_of_another_kind_is_refused(tmp_path, text, said):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=said):
        rows(tmp_path / "x.json")


def test_a_broken_parquet_file_is_refused(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match=r"x\.parquet: cannot be read after row 0"):
        rows(tmp_path / "x.parquet")


def test_a_word_that_is_none_of_those_allowed(tmp_path):
    (record,) = read_records(write(tmp_path / "x.json", [{"n": "c"}]))
    assert one_of(record, "n", ("b", "c")) == "c"
    with pytest.raises(UserError, match="row 1: field 'n' is 'c', none of a, b"):
        one_of(record, "n", ("a", "b"))
    with pytest.raises(UserError, match="row 1: no field 'm'"):
        one_of(record, "m", ("a", "b"))


def test_rows_of_one_prompt_are_of_one_prompt():
    said = [{"role": "user", "content": "a"}]
    items = [
        Item("1", "all", "a", ["x", "y"], 1),
        Item("2", "all", "b", ["x", "y", "z"], 1),
        Item("3", "all", said, ["w"], 1),
    ]
    assert prompts_of(items).tolist() == [0, 0, 1, 1, 1, 0]
    assert prompts_of([]).tolist() == []
