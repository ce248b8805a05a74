"""The tables of the precisions that quantize weights alone, or data at run time; targets share their rows.

What a runtime makes of the graphs, and so what is refused, is read from the real ones by the conformance tests.
"""

from __future__ import annotations

from infopt.target import Condition, Facts, Role, Rule, Scheme, Table
from infopt.targets.conditions import gemm_scaled, matrix_weight, runtime_bias, runtime_weight

DATA = Scheme("uint8", symmetric=False)
"""Data quantized at run time; what tables that leave data in float say is not looked at."""

WEIGHTS = Scheme("int8", symmetric=True, per_channel=True, narrow=True, implicit=True)
BLOCKS = Scheme("int4", symmetric=True, per_channel=True, implicit=True, blocked=True)

PRODUCTS = ("MatMul", "Gemm")
CONVOLUTIONS = ("Conv",)

NO_WEIGHT = "it has no weight: both operands are computed at run time"
IN_FLOAT = "the runtime would turn its weight back into floats in each run"
NO_SUCH = "only MatMul and Gemm are quantized so"
NO_DYNAMIC = "only MatMul, Gemm and LSTM are quantized so"


def runtime_recurrence(facts: Facts) -> str | None:
    """The weights of the recurrence have to be constant, too."""
    return None if facts.constants[2] else "the weights of its recurrence are computed at run time"


def batch_first(facts: Facts) -> str | None:
    """The integer kernel takes sequences with the batch behind the time."""
    return "its layout has the batch first" if facts.attributes.get("layout", 0) else None


def weights_table(
    scheme: Scheme, conv: bool, opset: int, biased: bool = False, unless: tuple[Condition, ...] = ()
) -> Table:
    """A table that quantizes weights alone.

    Args:
        scheme: How the weights of matrix products are stored.
        conv: Whether those of convolutions are stored in int8 per output channel: where the runtime turns them back
            into floats when it loads the model, that makes the file smaller and costs nothing.
        opset: Smallest opset that has the operators for it.
        biased: See :class:`infopt.target.Table`.
        unless: Under which further conditions products stay in float.
    """
    return Table(
        activation=DATA,
        weight=scheme,
        bias="float",
        rules=(
            Rule(PRODUCTS, Role.COMPUTE, unless=(runtime_weight, matrix_weight, gemm_scaled, *unless)),
            Rule(("MatMul",), Role.FLOAT, computed=True, why=NO_WEIGHT),
            *(
                (Rule(CONVOLUTIONS, Role.COMPUTE, unless=(runtime_weight,), weight=WEIGHTS),)
                if conv
                else (Rule(CONVOLUTIONS, Role.FLOAT, why=IN_FLOAT),)
            ),
            Rule(("ConvTranspose", "Einsum", "LSTM", "GRU"), Role.FLOAT, why=NO_SUCH),
        ),
        absorbs=frozenset(),
        biased=biased,
        opset=opset,
        data="float",
    )


def runtime_table(scheme: Scheme) -> Table:
    """A table that quantizes data at run time, with the range of each run.

    Args:
        scheme: Scheme of the weights.
    """
    return Table(
        activation=DATA,
        weight=scheme,
        bias="float",
        rules=(
            Rule(PRODUCTS, Role.COMPUTE, unless=(runtime_weight, runtime_bias, matrix_weight, gemm_scaled)),
            Rule(("MatMul",), Role.FLOAT, computed=True, why=NO_WEIGHT),
            Rule(("LSTM",), Role.COMPUTE, unless=(runtime_weight, runtime_recurrence, batch_first)),
            Rule(("Conv", "ConvTranspose", "Einsum", "GRU"), Role.FLOAT, why=NO_DYNAMIC),
        ),
        absorbs=frozenset(),
        data="runtime",
    )
