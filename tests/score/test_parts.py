"""Parts are found by place and digest, however many there are."""

import pytest

from rbs_jax.errors import UserError
from rbs_jax.score.parts import begun


def test_parts_ahead_are_read_at_their_places(tmp_path):
    out = str(tmp_path / "out.jsonl")

    def stopped():
        with begun(out) as parts:
            for at, digest in enumerate(("0" * 16, "1" * 16, "2" * 16)):
                parts.write(digest, f"{at}\n")
            raise UserError("enough")

    with pytest.raises(UserError, match=r"^enough; what is done stays in"):
        stopped()
    with begun(out) as parts:
        assert parts.read("1" * 16) is None
        assert parts.read("1" * 16, ahead=1) == "1\n"
        parts.keep("0" * 16)
        assert parts.read("1" * 16) == "1\n"
        assert parts.read("2" * 16, ahead=1) == "2\n"


def test_a_millionth_part_is_a_part(tmp_path):
    folder = tmp_path / "out.jsonl.partial"
    folder.mkdir()
    (folder / f"part-1000000-{'0' * 16}.jsonl").write_text("x")
    with begun(str(tmp_path / "out.jsonl")) as parts:
        assert parts.read("0" * 16, ahead=1_000_000) == "x"
