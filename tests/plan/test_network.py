import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from rbs_jax.plan.network import Traffic, collectives, peers
from tests.plan.texts import compiled, on_tpu

WIDTH = 128
ROW = 4 * WIDTH


def spread_over(axes, function):
    """A function of a device's row, over a mesh of 2 x 4 devices."""
    mesh = jax.make_mesh((2, 4), ("two", "four"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spec = P(axes)
    return jax.shard_map(
        function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False, axis_names=set(axes)
    )


def ring(x):
    return jax.lax.ppermute(x, "four", [(i, (i + 1) % 4) for i in range(4)])


SENT = {
    "all-gather": (lambda x: jax.lax.all_gather(x, "four").sum(0), 3 * ROW),
    "all-reduce": (lambda x: jax.lax.psum(x, "four"), 2 * ROW * 3 // 4),
    "reduce-scatter": (
        lambda x: jax.lax.psum_scatter(jnp.tile(x, (4, 1)), "four", tiled=True),
        3 * ROW,
    ),
    "all-to-all": (
        lambda x: jax.lax.all_to_all(jnp.tile(x, (4, 1)), "four", 0, 0, tiled=True)[:1],
        3 * ROW,
    ),
    "collective-permute": (ring, ROW),
}
"""Of a row each, among four devices."""


def three_times(one, loop):
    def scanned(x):
        return jax.lax.scan(lambda x, _: (jnp.tanh(one(x)), None), x, None, length=3)[0]

    def unrolled(x):
        for _ in range(3):
            x = jnp.tanh(one(x))
        return x

    return scanned if loop else unrolled


@pytest.mark.parametrize("loop", [True, False])
@pytest.mark.parametrize("kind", SENT)
def test_what_a_collective_sends_is_counted_with_the_loops_around_it(kind, loop):
    one, sent = SENT[kind]
    program = compiled(spread_over(("two", "four"), three_times(one, loop)), jnp.ones((8, WIDTH)))
    assert collectives(program) == {kind: Traffic(3, 3 * sent)}


def test_a_collective_of_one_device_is_none():
    def alone(x):
        return jax.lax.psum(x, "one")

    mesh = jax.make_mesh((1,), ("one",), axis_types=(jax.sharding.AxisType.Auto,))
    mapped = jax.shard_map(alone, mesh=mesh, in_specs=P("one"), out_specs=P("one"), check_vma=False)
    assert collectives(compiled(mapped, jnp.ones((8, WIDTH)))) == {}


@pytest.mark.parametrize(
    ("groups", "number"),
    [
        ("{{0,1,2},{3,4,5}}", 3),
        ("[2,8]<=[16]", 8),
        ("[4,4]<=[2,8]T(1,0)", 4),
        ("mesh['axis_0'=16,'axis_1'=1] {'axis_0'}", 16),
        ("mesh['a'=2,'b'=4,'c'=2], device_ids=([4,4]T(1,0)) {'a','b'}", 8),
        ("mesh['a'=2,'b'=8] {'b':(2)4}", 4),
    ],
)
def test_the_devices_of_a_group_are_counted_however_groups_are_written(groups, number):
    assert peers(f", channel_id=3, replica_groups={groups}, dimensions={{1}}") == number


def link(name, target):
    """A fusion that holds one link of an all-gather's chain, as a TPU's compiler makes them."""
    return f"""
%{name} (p: bf16[4,128]) -> bf16[16,128] {{
  %p = bf16[4,128]{{1,0:T(8,128)(2,1)S(1)}} parameter(0)
  %g = bf16[16,128]{{1,0:T(8,128)(2,1)}} all-gather(%p), channel_id=117, \
replica_groups=mesh['axis_0'=4,'axis_1'=4] {{'axis_0'}}, dimensions={{0}}, \
frontend_attributes={{chain_id="16"}}
  ROOT %r = bf16[16,128]{{1,0}} custom-call(%g), custom_call_target="AsyncCollective{target}"
}}"""


def test_a_collective_in_several_fusions_counts_once():
    lines = ["%x = bf16[4,128]{1,0} parameter(0)"]
    for name in ("begin", "between", "end"):
        lines.append(f"%{name}.1 = bf16[16,128]{{1,0}} fusion(%x), kind=kCustom, calls=%{name}")
    links = [link(name, "Start") for name in ("begin", "between", "end")]
    assert collectives(on_tpu("\n".join(lines), *links)) == {"all-gather": Traffic(1, 3 * 1024)}
    bare = [text.replace('chain_id="16"', "") for text in links]
    assert collectives(on_tpu("\n".join(lines), *bare)) == {"all-gather": Traffic(3, 9 * 1024)}


@pytest.mark.parametrize(
    ("called", "kind", "sent"),
    [("all-reduce-scatter.2", "reduce-scatter", 6), ("f", "all-reduce", 12)],
)
def test_a_tpus_all_reduce_with_a_slice_sends_as_a_reduce_scatter(called, kind, sent):
    fused = f"""
%{called} (p: f32[16,128]) -> f32[4,128] {{
  %p = f32[16,128]{{1,0:T(8,128)S(1)}} parameter(0)
  %sum = f32[16,128]{{1,0:T(8,128)}} all-reduce(%p), channel_id=1, replica_groups={{{{0,1,2,3}}}}
  %i = u32[] partition-id()
  %zero = u32[] constant(0)
  ROOT %s = f32[4,128]{{1,0:T(8,128)S(1)}} dynamic-slice(%sum, %i, %zero)
}}"""
    lines = (
        "%x = f32[16,128]{1,0:T(8,128)S(1)} parameter(0)\n"
        f"%y = f32[4,128]{{1,0:T(8,128)S(1)}} fusion(%x), kind=kCustom, calls=%{called}"
    )
    assert collectives(on_tpu(lines, fused)) == {kind: Traffic(1, sent * 1024)}


def test_what_goes_between_slices_is_counted_apart():
    program = on_tpu(
        "%x = f32[1,4,128]{2,1,0:T(4,128)} parameter(0)\n%t = token[] after-all()\n"
        "%send = (f32[1,4,128]{2,1,0:T(4,128)}, u32[], token[]) send(%x, %t), channel_id=4, "
        'is_host_transfer=true, frontend_attributes={_xla_megascale_reduce_operation="SUM",'
        '_xla_megascale_target="{1,2}x{0:15}",_xla_megascale_transfer_type="ALL_REDUCE"}\n'
        "%other = (f32[1,4,128]{2,1,0:T(4,128)}, u32[], token[]) send(%x, %t), channel_id=5, "
        'is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ONE_TO_ONE"}\n'
        "%done = token[] send-done(%send), channel_id=4, is_host_transfer=true"
    )
    assert collectives(program, slices=2) == {
        "slices all-reduce": Traffic(1, 2048),
        "slices one-to-one": Traffic(1, 2048),
    }
    assert collectives(program, slices=4)["slices all-reduce"] == Traffic(1, 3072)


def test_a_collective_begun_and_done_apart_counts_where_it_begins():
    program = on_tpu(
        "%x = f32[4,128]{1,0} parameter(0)\n"
        "%s = (f32[4,128]{1,0}, f32[16,128]{1,0}) all-gather-start(%x), "
        "replica_groups={{0,1,2,3}}, dimensions={0}\n"
        "%d = f32[16,128]{1,0} all-gather-done(%s)"
    )
    assert collectives(program) == {"all-gather": Traffic(1, 3 * 2048)}
