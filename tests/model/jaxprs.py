"""The operations of a traced function, those inside its loops and calls included."""

import jax
from jax.extend import core
from jax.interpreters.partial_eval import dce_jaxpr


def traced(function, *args):
    """The function's jaxpr, without what its result does not need."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0]


def inside(equation):
    """The jaxprs that an operation runs."""
    for value in equation.params.values():
        for part in value if isinstance(value, (tuple, list)) else [value]:
            if isinstance(part, core.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, core.Jaxpr):
                yield part


def operations(jaxpr):
    """All of them, each once however often it runs."""
    for equation in jaxpr.eqns:
        yield equation
        for own in inside(equation):
            yield from operations(own)
