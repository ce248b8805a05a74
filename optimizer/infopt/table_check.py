"""Refuses tables that contradict themselves, before a graph is quantized by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.errors import OptionError, unknown
from infopt.target import Output, Role, Rule, Scheme

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infopt.target import Table

ABSORBED = frozenset({"Relu", "Clip"})
"""Activations that a range can stand for."""

FLOAT8 = "float8e4m3fn"

REMEDY = "correct the row in the target's module"


def check_table(name: str, table: Table) -> None:
    """Stop at the first row that contradicts itself, another row or the table.

    Args:
        name: Name of the target.
        table: Its table.

    Raises:
        OptionError: With the target, the row and the reason.
    """
    where = f"the table of target {name!r}"
    for reason in _table_faults(table):
        raise OptionError(f"{where}: {reason}", "correct it in the target's module")
    known, seen = _operators(), set[tuple[str, bool]]()
    for rule in table.rules:
        row = f"{where}, row {title(rule)}"
        for reason in (*_rule_faults(rule), *_fit_faults(rule, table)):
            raise OptionError(f"{row}: {reason}", REMEDY)
        for op in rule.ops:
            if op not in known:
                raise OptionError(f"{row}: {unknown('operator', op, known)}")
            if (op, rule.computed) in seen:
                raise OptionError(f"{row}: {op} has a row already", REMEDY)
            seen.add((op, rule.computed))


def title(rule: Rule) -> str:
    """What messages and lists call a row."""
    return ", ".join(rule.ops) + (" (of computed tensors)" if rule.computed else "")


def _table_faults(table: Table) -> Iterator[str]:
    yield from (f"activations: {fault}" for fault in _data_faults(table.activation))
    yield from (f"weights: {fault}" for fault in _weight_faults(table.weight, table))
    if table.data not in ("calibrated", "runtime", "float"):
        yield f"data is {table.data!r}, not 'calibrated', 'runtime' or 'float'"
    if table.data != "calibrated" and table.bias == "int32":
        yield "biases are int32 with the scale of data, which is not known before a run"
    if table.bias not in ("int32", "float"):
        yield f"bias is {table.bias!r}, not 'int32' or 'float'"
    for op in sorted(table.absorbs - ABSORBED):
        yield f"absorbs {op}, but only {' and '.join(sorted(ABSORBED))} can vanish into a range"


def _rule_faults(rule: Rule) -> Iterator[str]:
    role, called = rule.role, rule.role.value
    if not rule.ops:
        yield "it names no operator"
    if role is Role.FLOAT:
        yield from _float_faults(rule)
    elif rule.why:
        yield f"it says why it stays in float, but its role is {called}"
    if role is Role.MOVE and rule.output is Output.ALWAYS:
        yield "what only moves data needs no quantized output"
    if rule.weight is not None and (role is not Role.COMPUTE or rule.computed):
        yield f"it has a scheme of weights, but {'computed operands' if rule.computed else f'the role {called}'}"
    flag = next((name for name in ("carries", "epilogue", "writes", "shared") if getattr(rule, name)), None)
    if role is Role.COMPUTE and flag:
        yield f"it has the role compute, which gives a new scale and a kernel of its own, but is marked {flag}"
    if rule.carries and rule.output is Output.ALWAYS:
        yield "it carries the scale of its input, but needs a quantized output"


def _float_faults(rule: Rule) -> Iterator[str]:
    if not rule.why:
        yield "it stays in float, but does not say why"
    set_ = {
        "output": rule.output is not Output.WANTED, "unless": bool(rule.unless), "shared": rule.shared,
        "carries": rule.carries, "activation": rule.activation is not None, "weight": rule.weight is not None,
    }  # fmt: skip
    for field in (field for field, given in set_.items() if given):
        yield f"it stays in float, but sets {field}"


def _fit_faults(rule: Rule, table: Table) -> Iterator[str]:
    if rule.since < 1 or rule.since > table.opset:
        yield f"it holds since opset {rule.since}, but the graphs that the target is given have opset {table.opset}"
    if rule.activation is not None:
        yield from (f"activations: {fault}" for fault in _data_faults(rule.activation))
    if rule.weight is not None:
        yield from (f"weights: {fault}" for fault in _weight_faults(rule.weight, table))


def _data_faults(scheme: Scheme) -> Iterator[str]:
    if scheme.per_channel:
        yield "data have one scale a tensor: an integer kernel cannot take another for each channel"
    if scheme.dtype == "int4":
        yield "int4 is neither int8 nor uint8: it is for weights"
    if scheme.unsigned and (scheme.dtype != "int8" or not scheme.symmetric):
        yield "unsigned is for symmetric int8"
    yield from _dtype_faults(scheme)


def _weight_faults(scheme: Scheme, table: Table) -> Iterator[str]:
    kind = "symmetric" if scheme.symmetric else "asymmetric"
    if scheme.dtype == "uint8" or not scheme.symmetric:
        yield f"{kind} {scheme.dtype} cannot be, only symmetric int8: integer kernels and biases need that"
    if table.data != "float" and (scheme.dtype == "int4" or scheme.blocked):
        yield "int4 and blocks are for tables that leave data in float"
    if table.data == "calibrated" and (scheme.dtype == FLOAT8) != (table.activation.dtype == FLOAT8):
        yield "a kernel takes FP8 for data and weights alike"
    if scheme.unsigned:
        yield "unsigned is for data"
    yield from _dtype_faults(scheme)


def _dtype_faults(scheme: Scheme) -> Iterator[str]:
    if scheme.dtype not in ("int8", "uint8", "int4", FLOAT8):
        yield f"{scheme.dtype} is neither int8 nor uint8, int4 or {FLOAT8}"
    if scheme.narrow and scheme.dtype == "uint8":
        yield "narrow leaves out -128, which uint8 does not have"


def _operators() -> frozenset[str]:
    """The operators of ONNX."""
    from onnx import defs

    return frozenset(schema.name for schema in defs.get_all_schemas() if schema.domain == "")
