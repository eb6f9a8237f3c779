import jax
import jax.numpy as jnp
import pytest

from rbs_jax.plan.hlo import Value, parse, runs, unknown_loops
from tests.plan.texts import compiled, counted, on_tpu


def times(program, opcode):
    return sorted(run.times for run in runs(program) if run.instruction.opcode == opcode)


def test_a_loop_s_body_runs_as_often_as_its_scan_is_long():
    def nested(x):
        def inner(x, _):
            return jnp.tanh(x @ x), None

        def outer(x, _):
            return jnp.tanh(jax.lax.scan(inner, x, None, length=5)[0] @ x), None

        return jax.lax.scan(outer, x @ x, None, length=3)[0]

    program = compiled(nested, jnp.ones((8, 8)))
    assert times(program, "dot") == [1, 3, 15]
    assert unknown_loops(program) == []


@pytest.mark.parametrize(
    ("first", "step", "stop", "length"),
    [
        ("0", "1", "7", 7),
        ("2", "1", "7", 5),
        ("0", "2", "7", 4),
        ("0", "3", "9", 3),
        ("9", "1", "7", 0),
    ],
)
def test_a_loop_s_length_is_read_from_its_counter(first, step, stop, length):
    assert times(counted(first, step, stop), "dot") == [length]


@pytest.mark.parametrize(
    "change",
    [
        ("direction=LT", "direction=NE"),
        ("add(%kept, %step)", "multiply(%kept, %step)"),
        ("tuple(%grown, %y)", "tuple(%step, %y)"),
        ("compare(%count.1, %stop)", "compare(%count.1, %count.1)"),
        ("get-tuple-element(%state), index=0", "get-tuple-element(%state), index=2"),
    ],
)
def test_a_loop_whose_length_cannot_be_read_counts_once_and_is_named(change):
    program = counted(change=change)
    assert times(program, "dot") == [1]
    assert unknown_loops(program) == ["loop"]


def test_both_sides_of_a_branch_and_what_is_called_run():
    def branch(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: (x @ x) @ x, x)

    assert times(compiled(branch, jnp.ones((8, 8))), "dot") == [1, 1, 1]


def test_what_is_fused_is_part_of_its_loop_s_turn():
    fusion = """
%inside (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  ROOT %b = f32[4]{0} negate(%a)
}"""
    program = on_tpu(
        "%c = f32[4]{0} parameter(0)\n%d = f32[4]{0} fusion(%c), kind=kLoop, calls=%inside", fusion
    )
    (negated,) = (run for run in runs(program) if run.instruction.opcode == "negate")
    assert (negated.computation.name, negated.scope.name) == ("inside", "main")
    assert negated.is_fused
    assert [run.is_fused for run in runs(program)] == [False, False, True, True]


def test_values_have_shapes_bytes_and_the_memory_they_lie_in():
    program = on_tpu(
        "%a = (bf16[2,3]{1,0:T(8,128)(2,1)S(1)}, /*index=1*/pred[5]{0}, s4[3]{0:T(128)}) "
        "parameter(0)\n"
        "%b = f8e4m3fn[<=7]{0} parameter(1)\n%c = (f32[], token[]) parameter(2)"
    )
    a, b, c = program.entry.instructions.values()
    assert a.values == (Value("bf16", (2, 3), 1), Value("pred", (5,), 0), Value("s4", (3,), 0))
    assert [value.bytes for value in a.values] == [12, 5, 2]
    assert (b.bytes, c.bytes) == (7, 4)
    assert program.entry.root == "c"


def test_a_line_that_cannot_be_read_is_no_silence():
    with pytest.raises(ValueError, match="no closing parenthesis"):
        on_tpu("%a = (f32[2]{0}, f32[3] parameter(0)")


def test_the_lines_of_a_kernels_settings_end_no_computation():
    program = parse(
        'ENTRY %main {\n  %x = f32[] custom-call(), backend_config={"kernel": {\n"a": 1\n'
        "}}, metadata={}\n  ROOT %y = f32[] copy(%x)\n}"
    )
    assert (program.entry.root, set(program.entry.instructions)) == ("y", {"x", "y"})


def test_operands_are_those_named_in_the_parentheses():
    program = parse(
        "ENTRY %main {\n  %x = f32[] parameter(0)\n"
        '  ROOT %y = f32[] add(%x, /*index=1*/f32[] %x), metadata={op_name="f(%z)"}\n}'
    )
    assert program.entry.instructions["y"].operands == ("x", "x")
