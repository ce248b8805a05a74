"""A target's table in words, for the terminal, for JSON and for the README alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from infopt.precisions import Refusal, plans
from infopt.table_check import title
from infopt.target import Output, Role
from infopt.views.tables import Column, Table
from infopt.wording import MISSING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infopt import target as targets
    from infopt.target import Condition, Rule, Scheme, Target

SCHEMA = "infopt.target/1"

ROLES = {
    Role.COMPUTE: "integer kernel",
    Role.FOLLOW: "integers in, integers out",
    Role.MOVE: "moves integers",
    Role.JOIN: "joins integers",
    Role.RESIDUAL: "skip input in integers",
    Role.FLOAT: "float",
}
SHORT = {
    Role.COMPUTE: "int8",
    Role.FOLLOW: "with",
    Role.MOVE: "moves",
    Role.JOIN: "joins",
    Role.RESIDUAL: "skip",
}
OUTPUTS = {Output.ALWAYS: "always", Output.WANTED: "where wanted", Output.OFFERED: "where of use"}


@dataclass(frozen=True, slots=True)
class RowInWords:
    """One row of a target's table.

    Attributes:
        operators: The ONNX operators that it is about.
        computed: Whether it is about products of computed tensors only.
        role: What the operators do in integers.
        data: How their data are quantized; ``None`` where they stay in float.
        weights: How their constant weights are; ``None`` where they have none.
        output: When the output is quantized; ``None`` where they stay in float.
        unless: When a node stays in float all the same.
        why: Why they stay in float; empty otherwise.
        since: First opset in which the row holds.
    """

    operators: tuple[str, ...]
    computed: bool
    role: str
    data: str | None
    weights: str | None
    output: str | None
    unless: tuple[str, ...]
    why: str
    since: int


def rows_in_words(table: targets.Table) -> tuple[RowInWords, ...]:
    """All rows of a table in words, in the table's order."""
    return tuple(_row(rule, table) for rule in table.rules)


def scheme_in_words(scheme: Scheme) -> str:
    """A scheme in words: ``"int8 from -127, symmetric, per channel"``."""
    parts = [
        f"{scheme.dtype} from -127" if scheme.narrow else scheme.dtype,
        "symmetric" if scheme.symmetric else "asymmetric",
        "per channel" if scheme.per_channel else "",
        "uint8 where never negative" if scheme.unsigned else "",
        "of 7 bits" if scheme.reduced else "",
        "in blocks" if scheme.blocked else "",
    ]
    return ", ".join(filter(None, parts))


def target_in_json(chosen: Target) -> dict[str, Any]:
    """A target's table as plain data for JSON."""
    table = chosen.table
    return {
        "schema": SCHEMA,
        "target": chosen.name,
        "runtime": chosen.runtime,
        "activations": scheme_in_words(table.activation),
        "weights": scheme_in_words(table.weight),
        "bias": table.bias,
        "absorbs": sorted(table.absorbs),
        "opset": table.opset,
        "rows": [asdict(row) for row in rows_in_words(table)],
        "precisions": [asdict(precision) for precision in precisions_in_words(chosen)],
    }


@dataclass(frozen=True, slots=True)
class PrecisionInWords:
    """What a target says of a precision.

    Attributes:
        name: What ``--precision`` takes.
        runs: Whether the target runs it.
        told: What is quantized how; or why it does not run it.
        nearest: What it runs instead.
    """

    name: str
    runs: bool
    told: str
    nearest: str | None = None


def precisions_in_words(chosen: Target) -> tuple[PrecisionInWords, ...]:
    """What a target says of every precision."""
    return tuple(_precision(name, plan) for name, plan in plans(chosen).items())


def _precision(name: str, plan: targets.Table | Refusal) -> PrecisionInWords:
    if isinstance(plan, Refusal):
        return PrecisionInWords(name, False, f"refused: {plan.why} (nearest: {plan.nearest})", plan.nearest)
    ops, needs = ", ".join(sorted(plan.compute_ops)), f"; needs {plan.needs}" if plan.needs else ""
    return PrecisionInWords(name, True, f"{ops}; weights: {scheme_in_words(plan.weight)}; data: {_data(plan)}{needs}")


def _data(table: targets.Table) -> str:
    if table.data == "float":
        return "float"
    ranges = "calibrated ranges" if table.data == "calibrated" else "ranges of each run"
    return f"{scheme_in_words(table.activation)}, {ranges}"


def target_table(chosen: Target) -> Table:
    """A target's table for a terminal; a row's schemes are shown where they are not the whole table's."""
    table = chosen.table
    common = scheme_in_words(table.activation), scheme_in_words(table.weight)
    columns = (
        *(Column("operators", "name"), Column("in integers", "text")),
        *(Column("output", "text"), Column("stays in float", "text")),
    )
    rows = tuple(
        (title(rule), *_cells(row, common)) for rule, row in zip(table.rules, rows_in_words(table), strict=True)
    )
    notes = [f"Data: {common[0]}. Weights: {common[1]}. Biases: {table.bias}."]
    if table.absorbs:
        notes.append(f"{' and '.join(sorted(table.absorbs))} end in the quantized tensor behind them.")
    return Table(f"{chosen.name}: what {chosen.runtime} runs in integers", columns, rows, tuple(notes))


def operator_matrix(chosen: Sequence[Target]) -> Table:
    """What each target does with each operator, side by side; operators with equal rows share one."""
    names: dict[tuple[str, ...], list[str]] = {}
    for op, computed in dict.fromkeys((op, rule.computed) for t in chosen for rule in t.table.rules for op in rule.ops):
        cells = tuple(_cell(target.table, op, computed) for target in chosen)
        names.setdefault(cells, []).append(f"{op} of computed tensors" if computed else op)
    columns = (Column("operators", "name"), *(Column(target.name, "name") for target in chosen))
    rows = tuple((", ".join(ops), *cells) for cells, ops in names.items())
    notes = (
        "int8: an integer kernel. with: integers if its inputs are. moves: data stay integers. joins: integers joined.",
        "skip: the skip input of a residual sum in integers. fused: computed by its neighbour's kernel.",
        "range: it vanishes into the range of the tensor behind it. *: not always.",
    )
    return Table("What runs in integers", columns, rows, notes)


def _cell(table: targets.Table, op: str, computed: bool) -> str:
    rule = table.rule(op, computed)
    if rule is None:
        return "range" if op in table.absorbs else MISSING
    if rule.role is Role.FLOAT:
        return "fused" if rule.epilogue or rule.writes else "float"
    return SHORT[rule.role] + ("*" if rule.unless else "")


def _row(rule: Rule, table: targets.Table) -> RowInWords:
    stays = rule.role is Role.FLOAT
    weighted = rule.role is Role.COMPUTE and not rule.computed
    return RowInWords(
        operators=rule.ops,
        computed=rule.computed,
        role=ROLES[rule.role] + _remark(rule),
        data=None if stays else scheme_in_words(rule.activation or table.activation),
        weights=scheme_in_words(rule.weight or table.weight) if weighted else None,
        output=None if stays else _output(rule),
        unless=tuple(map(_condition, rule.unless)),
        why=rule.why,
        since=rule.since,
    )


def _remark(rule: Rule) -> str:
    if rule.role is Role.MOVE:
        return ", scale carried" if rule.carries else ", one scale"
    if rule.shared:
        return ", one scale"
    return ", in a neighbour's kernel" if rule.writes and rule.role is Role.FLOAT else ""


def _output(rule: Rule) -> str:
    return "as its input" if rule.role is Role.MOVE else OUTPUTS[rule.output]


def _condition(condition: Condition) -> str:
    """The first line of a condition's docstring."""
    lines = (condition.__doc__ or "").strip().splitlines()
    return lines[0] if lines else getattr(condition, "__name__", repr(condition)).replace("_", " ")


def _cells(row: RowInWords, common: tuple[str, str]) -> tuple[str, str, str]:
    own = [text for text, usual in zip((row.data, row.weights), common, strict=True) if text not in (None, usual)]
    since = f"before opset {row.since}" if row.since > 1 else ""
    reasons = " ".join(filter(None, (*row.unless, row.why, since)))
    return "; ".join([row.role, *filter(None, own)]), row.output or MISSING, reasons or MISSING
