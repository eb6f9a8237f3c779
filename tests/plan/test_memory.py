import jax
import jax.numpy as jnp
import pytest

from rbs_jax.plan.hlo import parse
from rbs_jax.plan.memory import memory_bytes
from tests.optimised import AS_USED
from tests.plan.test_operations import scanned, unrolled
from tests.plan.texts import compiled, on_tpu

WIDTH, ROWS = 64, 32


def weights(layers):
    return jnp.ones((layers, WIDTH, WIDTH)), jnp.ones((ROWS, WIDTH))


@pytest.mark.parametrize("function", [unrolled, jax.grad(lambda *args: unrolled(*args).sum())])
def test_without_loops_xla_counts_the_same(function):
    program = jax.jit(function).lower(*weights(5)).compile(AS_USED)
    assert memory_bytes(parse(program.as_text())) == program.cost_analysis()["bytes accessed"]


def slope(function):
    """Bytes that each of the layers adds."""
    few, many = (memory_bytes(compiled(function(layers), *weights(layers))) for layers in (50, 60))
    return (many - few) / 10


def test_a_loop_reads_its_layer_s_slice_and_not_all_layers():
    row, weight = 4 * ROWS * WIDTH, 4 * WIDTH**2
    cut, product, tanh = 2 * weight, 2 * row + weight, 2 * row
    assert slope(lambda _: scanned) == pytest.approx(cut + product + tanh, rel=0.01)


def test_a_loop_that_stacks_its_results_writes_each_once():
    def stacked(layers):
        return lambda _, x: jax.lax.scan(lambda x, _: (jnp.sin(x), x), x, length=layers)[1]

    row = 4 * ROWS * WIDTH
    assert 3 * row <= slope(stacked) < 8 * row


ARRAY = "f32[16,8]{1,0:T(8,128)"
"""512 bytes."""
FUSED = """
%inside (p0: f32[16,8], p1: f32[1,8], p2: f32[16,8], i: s32[]) -> (f32[16,8], f32[1,8]) {
  %p0 = f32[16,8]{1,0} parameter(0)
  %p1 = f32[1,8]{1,0} parameter(1)
  %p2 = f32[16,8]{1,0} parameter(2)
  %i = s32[] parameter(3)
  %seen = f32[16,8]{1,0} bitcast(%p2)
  %part = f32[1,8]{1,0} dynamic-slice(%seen, %i, %i), dynamic_slice_sizes={1,8}
  %sum = f32[1,8]{1,0} add(%p1, %part)
  %put = f32[16,8]{1,0} dynamic-update-slice(%p0, %sum, %i, %i)
  ROOT %both = (f32[16,8]{1,0}, f32[1,8]{1,0}) tuple(%put, %sum)
}"""


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        (f"%y = {ARRAY}}} add(%main, %main)", 3 * 512),
        (f"%y = {ARRAY}S(1)}} add(%main, %fast)", 512),
        (f"%y = {ARRAY}}} bitcast(%main)", 0),
        (f"%y = {ARRAY}}} copy(%fast)", 512),
        ("%y = f32[1,8]{1,0} dynamic-slice(%main, %i, %i), dynamic_slice_sizes={1,8}", 2 * 32),
        ("%y = f32[1,8]{1,0} slice(%fast), slice={[0:1], [0:8]}", 32),
        (f"%y = {ARRAY}}} dynamic-update-slice(%main, %row, %i, %i)", 2 * 32),
        (f"%y = {ARRAY}}} scatter(%main, %i, %row), to_apply=%add", 3 * 32),
        (f'%y = {ARRAY}}} custom-call(), custom_call_target="AllocateBuffer"', 0),
        (f'%y = {ARRAY}}} custom-call(%main), custom_call_target="tpu_custom_call"', 2 * 512),
        (f"%y = ({ARRAY}}}, f32[1,8]{{1,0}}) fusion(%main, %row, %main, %i), calls=%inside", 132),
        (
            f"%y = ({ARRAY}S(1)}}, f32[1,8]{{1,0}}) fusion(%fast, %row, %fast, %i), calls=%inside",
            68,
        ),
    ],
)
def test_what_an_instruction_moves(line, moved):
    program = on_tpu(
        f"%main = {ARRAY}}} parameter(0)\n%fast = {ARRAY}S(1)}} parameter(1)\n"
        f"%row = f32[1,8]{{1,0}} parameter(2)\n%i = s32[] parameter(3)\n{line}",
        FUSED,
    )
    assert memory_bytes(program) == moved


@pytest.mark.parametrize(
    ("source", "target", "moved"), [("", "S(1)", 512), ("S(1)", "", 512), ("", "", 1024)]
)
def test_a_copy_apart_counts_in_main_memory_alone(source, target, moved):
    program = on_tpu(
        f"%x = {ARRAY}{source}}} parameter(0)\n"
        f"%s = ({ARRAY}{target}}}, {ARRAY}{source}}}, u32[]{{:S(2)}}) copy-start(%x)\n"
        f"%d = {ARRAY}{target}}} copy-done(%s)"
    )
    assert memory_bytes(program) == moved


def test_a_collective_reads_what_it_sends_and_writes_what_it_makes():
    program = on_tpu(
        f"%x = {ARRAY}}} parameter(0)\n"
        "%y = f32[64,8]{1,0} all-gather(%x), replica_groups={{0,1,2,3}}, dimensions={0}"
    )
    assert memory_bytes(program) == 5 * 512
