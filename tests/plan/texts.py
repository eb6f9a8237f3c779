"""Compiled programs for tests: what XLA makes on CPU, and pieces in the way a TPU's are written."""

import jax

from rbs_jax.plan.hlo import Program, parse
from tests.optimised import AS_USED


def compiled(function, *arguments) -> Program:
    return parse(jax.jit(function).lower(*arguments).compile(AS_USED).as_text())


def on_tpu(entry: str, *computations: str) -> Program:
    """A program of these lines; the entry's last one is its root."""
    head, _, last = entry.strip().rpartition("\n")
    return parse(
        "\n".join(
            [*computations, "ENTRY %main (p: f32[]) -> f32[] {", head, f"ROOT {last.strip()}", "}"]
        )
    )


BODY = """
%body (state: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %state = (s32[]{:T(128)}, f32[8,8]{1,0:T(8,128)}) parameter(0)
  %count = s32[]{:T(128)} get-tuple-element(%state), index=0
  %x = f32[8,8]{1,0:T(8,128)} get-tuple-element(%state), index=1
  %step = s32[]{:T(128)} constant(STEP)
  %kept = s32[]{:T(128)} copy(%count)
  %grown = s32[]{:T(128)} add(%kept, %step)
  %y = f32[8,8]{1,0:T(8,128)} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %next = (s32[]{:T(128)}, f32[8,8]{1,0:T(8,128)}) tuple(%grown, %y)
}
%condition (state.1: (s32[], f32[8,8])) -> pred[] {
  %stop = s32[]{:T(128)} constant(STOP), metadata={op_name="lt"}
  %state.1 = (s32[]{:T(128)}, /*index=1*/f32[8,8]{1,0:T(8,128)}) parameter(0)
  %count.1 = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  ROOT %test = pred[]{:T(512)} compare(%count.1, %stop), direction=LT, backend_config={"x":[]}
}"""


def counted(first="0", step="1", stop="7", **changes: str) -> Program:
    """A loop of which XLA notes no length, as a TPU's compiler leaves them."""
    computations = BODY.replace("STEP", step).replace("STOP", stop)
    for old, new in changes.values():
        assert old in computations
        computations = computations.replace(old, new)
    loop = f"""
  %first = s32[]{{:T(128)}} constant({first})
  %begun = s32[]{{:T(128)}} copy(%first)
  %x.1 = f32[8,8]{{1,0:T(8,128)}} parameter(0)
  %start = (s32[]{{:T(128)}}, f32[8,8]{{1,0:T(8,128)}}) tuple(%begun, %x.1)
  %loop = (s32[]{{:T(128)}}, f32[8,8]{{1,0:T(8,128)}}) while(%start), \
condition=%condition, body=%body"""
    return on_tpu(loop, computations)
