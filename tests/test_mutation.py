import json
import subprocess
import sys

import pytest

from tests import mutation
from tests.mutants import Mutant, mutants

SNIPPET = '''
@dataclass
class Config:
    """Not 1 + 1."""
    size: int = 3

    def check(self, axis: Literal[1] = -1) -> Literal[2]:
        if self.size < 1 and not self.empty:
            raise ValueError(f"{self.size + 1}" + str(2))
        total = (x[:, 0]  # a - b
                 + 0.5 * y) if z is None else ~w
        total -= 0.0
        return {"on": True, "a+b": [i for i in x if i.y]}
'''
CHANGES = """
def check(self, axis: Literal[1] = 1) -> Literal[2]:
def check(self, axis: Literal[1] = -2) -> Literal[2]:
if not (self.size < 1 and not self.empty):
if self.size <= 1 and not self.empty:
if self.size < 2 and not self.empty:
if self.size < 1 or not self.empty:
if self.size < 1 and self.empty:
total = (x[:, 1] # a - b
- 0.5 * y) if z is None else ~w
+ 1.0 * y) if z is None else ~w
+ 0.5 / y) if z is None else ~w
+ 0.5 * y) if z is not None else ~w
+ 0.5 * y) if z is None else w
total += 0.0
total -= 1.0
return {"on": False, "a+b": [i for i in x if i.y]}
return {"on": True, "a+b": [i for i in x if not (i.y)]}
"""
SMALL = {
    "pyproject.toml": "[tool.pytest.ini_options]",
    "rbs_jax/__init__.py": "",
    "rbs_jax/small.py": """
def capped(x, top):
    while x > top:
        x -= 1
    return x if x < top else top
""",
    "tests/__init__.py": "",
    "tests/test_small.py": """
from rbs_jax.small import capped

def test_capped():
    assert [capped(1, 5), capped(8, 5)] == [1, 5]
""",
}
SURVIVOR = (
    "rbs_jax/small.py",
    "return x if x < top else top",
    "return x if x <= top else top",
)
CAUGHT = "rbs_jax/small.py", "x -= 1", "x -= 2"
GONE = "rbs_jax/small.py", "x -= 3", "x -= 4"
CHECK_SMALL = """
import sys
from pathlib import Path
from tests import mutation

mutation.SPARE = 5.0
targets = {"rbs_jax/small.py": ("tests/test_small.py",)}
sys.exit(mutation.main([], Path(sys.argv[1]), targets))
"""


def run(*arguments):
    """In a process of its own: this one has started jax, and must not fork."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=mutation.ROOT, capture_output=True, text=True, check=False)


def test_what_is_changed_and_what_is_left_alone():
    made = list(mutants("rbs_jax/a.py", SNIPPET))
    assert [mutant.new for mutant in made] == CHANGES.strip().splitlines()
    assert len({mutant.code for mutant in made}) == len({mutant.key for mutant in made})
    assert made[2].line == 8


def test_equal_lines_are_told_apart():
    first, second = mutants("rbs_jax/a.py", "a < b\na < b\n")
    assert (first.code, second.code) == ("a <= b\na < b\n", "a < b\na <= b\n")
    assert first.key != second.key


@pytest.fixture
def small(tmp_path):
    for name, text in SMALL.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def listed(survivors):
    rows = [f"| `{module}` | `{old}` | `{new}` | why |" for module, old, new in survivors]
    return "\n".join(["| module | old | new | why |", "| - | - | - | - |", *rows])


def test_a_small_package_whose_survivor_is_not_listed(small):
    (small / "docs").mkdir()
    (small / "docs/mutation.md").write_text(listed([CAUGHT]))
    done = run("-c", CHECK_SMALL, small)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["not_listed"] == [" -> ".join(SURVIVOR)]
    assert said["stale"] == [" -> ".join(CAUGHT)]
    assert (said["mutants"], said["caught"], len(said["timed_out"])) == (6, 3, 2)
    assert done.returncode == 1
    assert {path: (small / path).read_text() for path in SMALL} == SMALL


def test_what_must_be_listed(tmp_path):
    """Every survivor, and nothing else: not what is caught, and not what is no mutant now."""
    lived, died = (Mutant(*key, 3, "") for key in (SURVIVOR, CAUGHT))
    results = {lived: mutation.SURVIVED, died: mutation.CAUGHT}
    page = tmp_path / "page.md"
    for keys, not_listed, stale in (
        ([SURVIVOR], [], []),
        ([], [SURVIVOR], []),
        ([SURVIVOR, CAUGHT, GONE], [], [CAUGHT, GONE]),
    ):
        page.write_text(listed(keys))
        said = mutation.verdict(results, {SURVIVOR, CAUGHT}, mutation.accepted(page), 0.0)
        assert said["not_listed"] == [" -> ".join(key) for key in not_listed]
        assert said["stale"] == [" -> ".join(key) for key in stale]


def test_bars_in_a_listed_line_are_escaped(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(listed([("rbs_jax/a.py", r"a \| b", "a & b")]))
    assert mutation.accepted(page) == {("rbs_jax/a.py", "a | b", "a & b")}


def test_a_sample_of_the_core():
    """Both changes of a line are caught, and the unchanged copy passes."""
    module = "rbs_jax/data/split.py"
    done = run("-m", "tests.mutation", "--module", module, "--line", "columns < at")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["caught"] == 2


def test_the_unchanged_copy_must_pass(small):
    (small / "tests/test_small.py").write_text("def test_red():\n    assert 1 + 1 == 3\n")
    done = run("-c", CHECK_SMALL, small)
    assert done.returncode == 1
    assert done.stderr.endswith("tests/test_small.py: not green on the unchanged code (1)\n")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"split\.py does not exist"):
        mutation.main(["--module", "rbs_jax/data/split.py"], tmp_path)
