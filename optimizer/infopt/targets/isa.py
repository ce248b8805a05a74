"""What instruction sets change about a table, and whether this machine can stand for another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from infopt.cpu import Isa, machine_isa
from infopt.target import Scheme, Table


def adapted(table: Table, isa: Isa) -> Table:
    """A table, made for x86 with VNNI, as another instruction set wants it.

    - ``avx2``: without VNNI, products of two pairs are added up in 16 bits and saturate: one bit less for weights.
      Layouts have blocks of 8 channels.
    - ``arm``: signed activations, for which ONNX Runtime has the faster kernels there; blocks of 8 too.
    - ``vnni``, ``amx``: as it is.
    """
    if isa == "avx2":
        return replace(_with_weights(table, lambda scheme: replace(scheme, reduced=True)), multiple=8)
    if isa == "arm":
        return replace(table, activation=replace(table.activation, dtype="int8"), multiple=8)
    return table


def foreign(isa: Isa) -> str | None:
    """Why this machine cannot stand for one with that instruction set, or ``None`` when it can."""
    here = machine_isa()
    same = isa == here or {isa, here} == {"vnni", "amx"}
    return None if same else f"made for --isa {isa}, and this machine has {here}"


def _with_weights(table: Table, change: Callable[[Scheme], Scheme]) -> Table:
    rules = tuple(replace(rule, weight=change(rule.weight)) if rule.weight else rule for rule in table.rules)
    return replace(table, weight=change(table.weight), rules=rules)
