import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbs_jax.model.reward import RewardModel
from rbs_jax.objective import ObjectiveConfig
from rbs_jax.optim import OptimConfig, make_optimizer
from rbs_jax.plan.hlo import parse
from rbs_jax.plan.operations import Operations, operations
from rbs_jax.sharding import MeshConfig, make_mesh
from rbs_jax.train.feed import IN_BATCH, place
from rbs_jax.train.state import init_state
from rbs_jax.train.step import make_step
from tests.optimised import AS_USED
from tests.plan.texts import compiled, on_tpu
from tests.tiny import TINY, random_batch

LAYERS, ROWS, WIDTH = 5, 32, 16


def scanned(weights, x):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]


def unrolled(weights, x):
    for w in weights:
        x = jnp.tanh(x @ w)
    return x


@pytest.mark.parametrize("model", [scanned, unrolled])
def test_products_are_counted_with_the_loops_around_them(model):
    program = compiled(model, jnp.ones((LAYERS, WIDTH, WIDTH)), jnp.ones((ROWS, WIDTH)))
    assert operations(program) == Operations(2 * LAYERS * ROWS * WIDTH**2, 0)


def test_a_batched_product_counts_its_batch_once():
    program = compiled(
        lambda x, y: jnp.einsum("bij,bkj->bik", x, y), jnp.ones((3, 4, 5)), jnp.ones((3, 6, 5))
    )
    assert operations(program).flops == 2 * 3 * 4 * 6 * 5


def step_flops(scan, remat="none", shape=(1, 1, 1)):
    config = dataclasses.replace(TINY, num_layers=4, scan_layers=scan, remat=remat)
    mesh = make_mesh(MeshConfig(*shape))
    with jax.set_mesh(mesh):
        optimizer = make_optimizer(OptimConfig(), steps=1, updates_per_step=1)
        state = jax.jit(lambda: init_state(RewardModel(jax.random.key(0), config), optimizer))()
        batch = place(IN_BATCH, random_batch(0, grids=2, prefixes=4), mesh, 2)
        step = make_step(optimizer, ObjectiveConfig(), OptimConfig())
        return operations(parse(step.lower(state, batch).compile().as_text())).flops


def test_a_step_s_layers_count_the_same_scanned_and_unrolled():
    # Unrolled, the compiler takes some logits of the backward pass from the forward one.
    assert step_flops(scan=True) == pytest.approx(step_flops(scan=False), rel=0.03)


def test_a_step_that_recomputes_its_layers_counts_them_again_and_devices_share_the_work():
    alone = step_flops(scan=True)
    assert 1.2 < step_flops(scan=True, remat="full") / alone < 1.34
    assert step_flops(scan=True, shape=(2, 2, 2)) == pytest.approx(alone / 8, rel=0.05)


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        (((2, 9, 7, 4), (3, 3, 4, 6)), {"padding": "SAME"}),
        (((2, 9, 7, 4), (3, 3, 4, 6)), {"padding": "VALID", "window_strides": (2, 1)}),
        (((2, 9, 7, 4), (3, 2, 4, 6)), {"padding": ((1, 0), (2, 1)), "rhs_dilation": (2, 1)}),
        (((2, 9, 7, 4), (3, 3, 4, 6)), {"padding": ((2, 2), (1, 1)), "lhs_dilation": (2, 3)}),
        (((2, 9, 7, 4), (3, 3, 2, 6)), {"padding": "SAME", "feature_group_count": 2}),
        (((4, 9, 7, 4), (3, 3, 4, 6)), {"padding": "SAME", "batch_group_count": 2}),
    ],
)
def test_a_convolution_counts_where_its_window_meets_the_image(shapes, options):
    """A convolution of ones by ones adds up to how often they meet."""
    options = {"window_strides": (1, 1)} | options
    dimensions = ("NHWC", "HWIO", "NHWC")

    def convolve(x, y):
        return jax.lax.conv_general_dilated(x, y, dimension_numbers=dimensions, **options)

    x, y = (np.ones(shape, np.float32) for shape in shapes)
    compiled_ = jax.jit(convolve).lower(x, y).compile(AS_USED)
    assert operations(parse(compiled_.as_text())).flops == 2 * np.asarray(convolve(x, y)).sum()


def test_a_product_that_a_tpu_writes_as_a_convolution_is_a_product():
    """A batch of 8 becomes a window of 8 that moves by 7 over an image dilated by 8."""
    program = on_tpu(
        "%x = bf16[8,4,16]{2,1,0:T(8,128)} parameter(0)\n"
        "%y = bf16[8,16,32]{2,1,0:T(8,128)} parameter(1)\n"
        "%z = f32[8,4,32]{2,1,0} convolution(%x, %y), "
        "window={size=8 stride=7 pad=0_0 lhs_dilate=8}, dim_labels=0bf_0io->0bf"
    )
    assert operations(program).flops == 2 * 8 * 4 * 16 * 32


KERNEL = (
    "%x = f32[8]{0} parameter(0)\n"
    '%y = f32[8]{0} custom-call(%x), custom_call_target="tpu_custom_call", '
    'backend_config={"custom_call_config":{"body":"TUzvUgFN",COST"needs_layout_passes":true}}'
)


def test_a_kernel_counts_what_it_says_of_itself_and_a_silent_one_is_counted():
    said = '"cost_estimate":{"flops":"33554432","transcendentals":"0"},'
    assert operations(on_tpu(KERNEL.replace("COST", said))) == Operations(33554432, 0)
    assert operations(on_tpu(KERNEL.replace("COST", ""))) == Operations(0, 1)


@pytest.mark.parametrize(("kernel", "products"), [("fwd", 2), ("dq", 3), ("dkv", 4)])
def test_splash_attention_counts_what_its_queries_see(kernel, products):
    """8 queries behind a prefix of 24: two texts, four heads of 16, of which two share keys."""
    text = (
        "%mask = s8[1,1,1]{2,1,0} parameter(0)\n"
        "%q = bf16[2,4,8,16]{3,2,1,0} parameter(1)\n"
        "%k = bf16[2,2,32,16]{3,2,1,0} parameter(2)\n"
        f"%splash_mha_{kernel}_segmented_no_residuals.3 = bf16[2,4,8,16]{{3,2,1,0}} "
        'custom-call(%mask, %q, %k), custom_call_target="tpu_custom_call", backend_config={}'
    )
    seen = sum(24 + place + 1 for place in range(8))
    expected = products * 2 * 2 * 4 * 16 * seen
    assert operations(on_tpu(text)) == Operations(expected, 0)
