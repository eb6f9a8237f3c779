"""The operations of the matrix products that a function's result needs, loops' trips included."""

import math

import jax
from jax.extend import core
from jax.interpreters.partial_eval import dce_jaxpr


def dot_flops(function, *args):
    """2 m n k of each product [m, k] by [k, n] in the function's jaxpr, but for dead code."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _of_jaxpr(dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def _of_jaxpr(jaxpr):
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation):
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
    inside = sum(_of_jaxpr(jaxpr) for jaxpr in _jaxprs_in(equation.params.values()))
    assert not inside or equation.primitive.name not in {"while", "cond"}, "unknown trips"
    return inside * equation.params["length"] if equation.primitive.name == "scan" else inside


def _jaxprs_in(values):
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _jaxprs_in(value)
        elif isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value
