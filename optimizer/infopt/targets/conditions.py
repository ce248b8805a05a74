"""Why a node stays in float: conditions that several targets' tables share."""

from __future__ import annotations

from infopt.target import Facts


def runtime_weight(facts: Facts) -> str | None:
    """The weight has to be a constant: it is quantized ahead of time."""
    if facts.weight is None:
        return "its second operand is computed at run time"
    if facts.constants[0]:
        return "its first operand is a constant"
    return None


def runtime_bias(facts: Facts) -> str | None:
    """An integer bias has to be a constant vector."""
    if len(facts.constants) > 2 and not facts.constants[2]:
        return "its bias is computed at run time"
    return None


def matrix_weight(facts: Facts) -> str | None:
    """Per-channel scales of a MatMul need a plain matrix."""
    if facts.weight is not None and len(facts.weight) != 2:
        return f"its weight has {len(facts.weight)} axes"
    return None


def gemm_scaled(facts: Facts) -> str | None:
    """Integer Gemm kernels know neither alpha, beta nor a transposed input."""
    if facts.attributes.get("alpha", 1.0) != 1.0 or facts.attributes.get("beta", 1.0) != 1.0:
        return "its alpha or beta is not 1"
    return "its input is transposed" if facts.attributes.get("transA", 0) else None


def indices_read(facts: Facts) -> str | None:
    """Where the places of the maxima are read too, there is no integer kernel."""
    return "its indices are read" if facts.outputs > 1 else None


def other_padding(facts: Facts) -> str | None:
    """Padding with another number than 0 would have to be quantized with the data."""
    number = facts.numbers[2] if len(facts.numbers) > 2 else None
    constant = facts.attributes.get("mode", "constant") == "constant"
    return f"it pads with {number:g}" if constant and number else None


def vector_weight(facts: Facts) -> str | None:
    """A weight of one axis has no output channels."""
    return "its weight is a vector" if facts.weight is not None and len(facts.weight) == 1 else None


def not_nearest(facts: Facts) -> str | None:
    """Only picking the nearest element leaves values as they are."""
    mode = facts.attributes.get("mode", "nearest")
    return None if mode == "nearest" else f"its mode is {mode}, which computes new values"


def ungrouped(facts: Facts) -> str | None:
    """Transposed convolutions in groups have no integer kernels."""
    return f"it has {facts.groups} groups" if facts.groups > 1 else None


def single_number(facts: Facts) -> str | None:
    """A factor of one number is part of an activation that is fused as a whole, or would be a scale anyway."""
    return "one operand is a single number" if any(number is not None for number in facts.numbers) else None
