import importlib.util

import pytest

from rbs_jax.cli import main
from rbs_jax.plan import pod
from rbs_jax.plan.compile import Compiled, Outcome, TooLarge, too_large
from rbs_jax.plan.plan import _measures
from rbs_jax.plan.pod import parse_pod
from rbs_jax.plan.report import page
from tests.plan.texts import BODY
from tests.test_cli import TINY


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (21.11G) exceeds available HBM (15.75G).",
            round(21.11 * 2**30),
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
            "space hbm. Used 512.5M of 15.75G hbm.\n\nTotal hbm usage >= 1.1G:\n reserved 530.0M",
            round(512.5 * 2**20),
        ),
        ("RESOURCE_EXHAUSTED: no more\nspace", None),
    ],
)
def test_what_a_program_needs_is_read_from_the_refusal(message, needed):
    assert too_large(message) == TooLarge(needed, " ".join(message.split()))


def test_without_libtpu_one_line_says_what_to_install(monkeypatch, tmp_path, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "libtpu" else find(name)
    )
    pod.load_libtpu.cache_clear()
    (tmp_path / "tiny.py").write_text(TINY)
    assert main(["plan", str(tmp_path / "tiny.py"), "--topology", "v5e:1x1"]) == 2
    assert capsys.readouterr().err == (
        "rbs: rbs plan compiles with libtpu, which is not installed: pip install 'rbs_jax[tpu]'\n"
    )


@pytest.mark.parametrize("out", [".", "tiny.py/plan.json"])
def test_a_plan_that_could_not_be_written_is_refused_before_minutes_of_work(out, tmp_path, capsys):
    (tmp_path / "tiny.py").write_text(TINY)
    given = ["--topology", "v5e:1x1", "--out", str(tmp_path / out)]
    assert main(["plan", str(tmp_path / "tiny.py"), *given]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"rbs: {(tmp_path / out).parent if out != '.' else tmp_path}: cannot ")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.py"]


PROGRAM = (
    BODY.replace("STEP", "1").replace("STOP", "1000")
    + """
ENTRY %main (x: f32[8,8]) -> f32[8,8] {
  %first = s32[] constant(0)
  %x.1 = f32[8,8]{1,0} parameter(0)
  %all = f32[8,8]{1,0} all-reduce(%x.1), replica_groups={{0,1}}, to_apply=%add
  %start = (s32[], f32[8,8]{1,0}) tuple(%first, %all)
  ROOT %loop = (s32[], f32[8,8]{1,0}) while(%start), condition=%condition, body=%body
}
"""
)
MEMORY = {"arguments": 1, "outputs": 1, "aliased": 1, "temporaries": 1, "program": 1, "peak": 2}
FLOPS, MOVED, SENT = 1000 * 2 * 8**3, 2 * 256 + 1000 * (3 * 256 + 8 + 12), 256


def measures(text=PROGRAM, blocks=32, utilisation=None):
    outcome = Outcome(Compiled(MEMORY, text), 1.0, [])
    return _measures(outcome, parse_pod("v5e:4x4"), blocks, utilisation)


def test_bounds_are_work_over_published_peaks_and_the_largest_limits():
    found = measures()
    assert found["flops"] == FLOPS
    assert found["memory_bytes"] == MOVED
    assert found["collectives"] == {"all-reduce": {"times": 1, "bytes": SENT}}
    assert found["bounds"] == pytest.approx(
        {
            "compute": FLOPS / 197e12,
            "memory": MOVED / 819e9,
            "network": SENT / 200e9,
            "network between slices": 0,
        }
    )
    assert found["limit"] == "memory"
    assert found["step_seconds_at_least"] == found["bounds"]["memory"]
    assert found["blocks_per_second"] == pytest.approx(32 / found["bounds"]["memory"])


def test_an_estimate_needs_a_utilisation_and_slows_the_computing_alone():
    assert measures()["step_seconds_estimate"] is None
    assert measures(utilisation=1.0)["step_seconds_estimate"] == pytest.approx(MOVED / 819e9)
    slow = FLOPS / 197e12 / 0.001
    assert measures(utilisation=0.001)["step_seconds_estimate"] == pytest.approx(slow)


def test_what_goes_between_slices_has_a_bound_of_its_own():
    send = """
  %t = token[] after-all()
  %send = (f32[8,8]{1,0}, u32[], token[]) send(%x.1, %t), is_host_transfer=true, \
frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
"""
    text = PROGRAM.replace("  %start = (s32[]", f"{send}  %start = (s32[]")
    outcome = Outcome(Compiled(MEMORY, text), 1.0, [])
    found = _measures(outcome, parse_pod("2*v5e:4x4"), 32, None)
    assert found["bounds"]["network between slices"] == pytest.approx(256 / 3.125e9)
    assert found["bounds"]["network"] == pytest.approx(256 / 200e9)


SETTINGS = {
    "mesh.data": 1,
    "mesh.fsdp": 16,
    "mesh.tensor": 1,
    "grid.grids_per_step": 2,
    "model.remat": "full",
    "tile.prefixes": 32,
    "tile.suffixes": 32,
}


def printed(*entries, recommended=None, **changes):
    found = {
        "topology": "v5e:4x4",
        "chips": 16,
        "chip": parse_pod("v5e:4x4").chip._asdict(),
        "notes": [],
        "utilisation": None,
        "recommended": recommended,
        "candidates": list(entries),
        "meshes_not_looked_at": 0,
    }
    return page(found | changes, "tiny.py")


def test_a_page_says_yes_with_the_settings_and_no_estimate_unless_asked():
    entry = {"settings": SETTINGS, "copied_whole": [], "useful_flops": FLOPS / 2, **measures()}
    said = printed(entry, recommended=SETTINGS)
    assert (
        "yes: it fits with --mesh.data 1 --mesh.fsdp 16 --mesh.tensor 1 "
        "--grid.grids-per-step 2 --model.remat full" in said
    )
    assert "at least" in said
    assert "by its memory" in said
    at_most = FLOPS / 2 / 197e12 / (MOVED / 819e9)
    assert f"mfu is at most {at_most:.2f}" in said
    assert "estimate" not in said
    entry |= {"step_seconds_estimate": 2.5, "kernels_without_flops": 3, "copied_whole": ["a", "b"]}
    said = printed(entry, recommended=SETTINGS, utilisation=0.4, meshes_not_looked_at=5)
    assert "an estimate at a utilisation of 0.4: 2.5 s" in said
    assert "3 runs of kernels" in said
    assert "2 arrays are copied whole" in said
    assert "5 more meshes" in said


def test_a_page_says_no_with_what_was_needed():
    entry = {"settings": SETTINGS, "copied_whole": [], "fits": False, "needed": 30 * 2**30}
    said = printed(entry, entry | {"needed": None}, notes=["no tokenizer is here"])
    assert said.endswith("no: it does not fit")
    assert "30.00 of 15.75" in said
    assert "? of 15.75" in said
    assert "no tokenizer is here" in said
