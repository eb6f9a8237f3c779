import pytest

from rbs_jax.errors import UserError
from rbs_jax.eval import portions
from rbs_jax.eval.portions import Kept, in_portions
from rbs_jax.score import progress
from rbs_jax.suites.items import Item


def items(count, responses=1):
    return [Item(str(n), "all", f"p{n}", ["r"] * responses, 0) for n in range(count)]


class Asked:
    """Answers with the prompt and its number of responses, and remembers what it was asked."""

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at

    def __call__(self, prompts, responses, names):
        if len(self.calls) == self.fails_at:
            raise UserError("no more")
        self.calls.append((prompts, names))
        return [[prompt, len(own)] for prompt, own in zip(prompts, responses, strict=True)]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(portions, "ITEMS", 2)
    monkeypatch.setattr(portions, "RESPONSES", 5)


def test_items_are_asked_for_in_portions_and_counted_by_responses(
    small, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(progress, "PLAIN_LINES", 0)
    made = [Item(str(n), "all", f"p{n}", ["r"] * (n + 1), 0) for n in range(3)]
    ask = Asked()
    assert in_portions(made, "rewards", ask, Kept(str(tmp_path), "m")) == [
        ["p0", 1],
        ["p1", 2],
        ["p2", 3],
    ]
    assert ask.calls == [(["p0", "p1"], ["item 0", "item 1"]), (["p2"], ["item 2"])]
    said = [line.partition(" responses")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["rbs: rewards: 3 of 6", "rbs: rewards: 6 of 6"]


@pytest.mark.parametrize(
    ("responses", "sizes"), [(1, [2, 2, 1]), (2, [2, 2, 1]), (3, [1] * 5), (9, [1] * 5)]
)
def test_a_portion_is_of_few_items_and_few_responses(small, tmp_path, responses, sizes):
    ask = Asked()
    in_portions(items(5, responses), "rewards", ask, Kept(str(tmp_path), "m"))
    assert [len(prompts) for prompts, _ in ask.calls] == sizes


def test_what_was_answered_is_not_asked_again(small, tmp_path):
    kept = Kept(str(tmp_path), "m")
    failing = Asked(fails_at=2)
    with pytest.raises(UserError, match="no more"):
        in_portions(items(5), "rewards", failing, kept)
    again = Asked()
    expected = [[f"p{n}", 1] for n in range(5)]
    assert in_portions(items(5), "rewards", again, kept) == expected
    assert [prompts for prompts, _ in again.calls] == [["p4"]]
    again = Asked()
    assert in_portions(items(5), "rewards", again, kept) == expected
    assert again.calls == []


@pytest.mark.parametrize("change", ["model", "what", "text", "order"])
def test_what_decides_the_answers_is_asked_anew(small, tmp_path, change):
    in_portions(items(2), "rewards", Asked(), Kept(str(tmp_path), "m"))
    made, what, decides = items(2), "rewards", "m"
    if change == "model":
        decides = "other"
    if change == "what":
        what = "random heads"
    if change == "text":
        made[1].responses[0] = "other"
    if change == "order":
        made = made[::-1]
    again = Asked()
    in_portions(made, what, again, Kept(str(tmp_path), decides))
    assert len(again.calls) == 1


@pytest.mark.parametrize("torn", ["", "[", '["p0", 1]\n'])
def test_a_file_that_is_not_whole_is_made_anew(small, tmp_path, torn):
    kept = Kept(str(tmp_path), "m")
    in_portions(items(2), "rewards", Asked(), kept)
    (file,) = (tmp_path / "kept").iterdir()
    whole = file.read_text()
    file.write_text(torn)
    again = Asked()
    assert in_portions(items(2), "rewards", again, kept) == [["p0", 1], ["p1", 1]]
    assert len(again.calls) == 1
    assert file.read_text() == whole


def test_no_folder_stays_where_nothing_could_be_kept(small, tmp_path):
    kept = Kept(str(tmp_path / "new" / "out"), "m")

    def written_in_vain(*_):
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rbs_jax.storage.put", written_in_vain)
        with pytest.raises(UserError, match="No space left"):
            in_portions(items(5), "rewards", Asked(), kept)
    assert not list(tmp_path.iterdir())
