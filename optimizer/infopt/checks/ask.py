"""Asks the runtimes that are installed: does the model parse, does it build, what runs in integers.

Each is asked in a process of its own, since native code may crash on a model that is broken.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infopt.shapes import show_shape
from infopt.target import ByIsa, FloatNode

if TYPE_CHECKING:
    from infopt.shapes import ShapeRange
    from infopt.target import Target


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a runtime objected to.

    Attributes:
        stage: ``opset``, ``parse``, ``build``, ``guess`` (the build, for shapes that were guessed) or ``crash``.
        node: Name of the node, if it told.
        reason: Its message.
    """

    stage: str
    node: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a runtime says of a model.

    Attributes:
        version: Version of the runtime; ``None`` where it was not asked.
        reason: Why it was not asked.
        refusals: What it objected to.
        integer: Compute layers that run in integers; ``None`` where that is not known.
        total: Compute layers.
        floats: The compute layers that run in float.
    """

    version: str | None = None
    reason: str | None = None
    refusals: tuple[Refusal, ...] = ()
    integer: int | None = None
    total: int | None = None
    floats: tuple[FloatNode, ...] = field(default=())


def ask(target: Target, model: Path, shapes: Sequence[ShapeRange], kernels: bool) -> Answer:
    """Ask one runtime.

    Args:
        target: Which.
        model: The ONNX file.
        shapes: Ranges of dynamic inputs.
        kernels: Whether to ask also what runs in integers.

    Returns:
        Its answer; a runtime that is not installed, or that needs a GPU which is not here, is not asked.
    """
    missing = target.available()
    if missing:
        return Answer(reason=missing)
    request = request_of(target, model, shapes, kernels)
    with tempfile.TemporaryDirectory(prefix="infopt-") as work:
        reply = Path(work) / "reply.json"
        child = subprocess.run(
            [sys.executable, "-P", "-m", "infopt.checks.child", str(reply)],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        told = json.loads(reply.read_text(encoding="utf-8")) if reply.exists() else {"stage": "start"}
    return answer_of(told, child)


def request_of(target: Target, model: Path, shapes: Sequence[ShapeRange], kernels: bool) -> dict[str, Any]:
    """What :mod:`infopt.checks.child` is asked, as JSON values."""
    return {
        "target": target.name,
        "isa": target.isa if isinstance(target, ByIsa) and target.isa else "auto",
        "model": str(model.resolve()),
        "shapes": [show_shape(each) for each in shapes],
        "kernels": kernels,
    }


def answer_of(told: dict[str, Any], child: subprocess.CompletedProcess[str] | None = None) -> Answer:
    """What :mod:`infopt.checks.child` told, and how its process ended where it did not come to the end."""
    refusals = [Refusal(**each) for each in told.get("refusals", [])]
    if told["stage"] != "done" and child is not None:
        last = (child.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        refusals.append(Refusal("crash", None, f"its process ended at the stage {told['stage']!r} with {how}: {last}"))
    return Answer(
        told.get("version", "unknown"),
        None,
        tuple(refusals),
        told.get("integer"),
        told.get("total"),
        tuple(FloatNode(each["name"], each["op"], tuple(each["also"])) for each in told.get("floats", [])),
    )
