"""The operations of the matrix products that a function's result needs, loops' trips included."""

import math

from tests.model.jaxprs import inside, traced


def dot_flops(function, *args):
    """2 m n k of each product [m, k] by [k, n] in the function's jaxpr."""
    return _of_jaxpr(traced(function, *args))


def _of_jaxpr(jaxpr):
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation):
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
    own = sum(_of_jaxpr(jaxpr) for jaxpr in inside(equation))
    assert not own or equation.primitive.name not in {"while", "cond"}, "unknown trips"
    return own * equation.params["length"] if equation.primitive.name == "scan" else own
