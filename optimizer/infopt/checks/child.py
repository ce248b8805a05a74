"""The process in which a runtime is asked; see :mod:`infopt.checks.ask`.

It reads a request from stdin and keeps its answer in a file up to date, so that what it knew survives a crash; it
builds beside that file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infopt import registry
from infopt.checks.ask import Refusal
from infopt.errors import InfoptError, RuntimeRefused, Unmeasured
from infopt.shapes import parse_shape
from infopt.target import Artifact, CompileOptions, Target

FLOAT = 1
"""TensorProto.FLOAT."""

PROFILE = "profile"
"""What a builder calls the ranges of dynamic shapes when it objects to them."""


def main() -> None:
    """Answer one request."""
    request, reply = json.load(sys.stdin), Path(sys.argv[1])
    told: dict[str, Any] = {"stage": "start"}

    def note(**news: Any) -> None:
        told.update(news)
        reply.write_text(json.dumps(told), encoding="utf-8")

    # In the asker's temporary folder: it is removed there even when this process is killed.
    work = Path(tempfile.mkdtemp(dir=reply.parent))
    interrogate(registry.target(request["target"], request["isa"]), request, work, note)


def interrogate(target: Target, request: dict[str, Any], work: Path, note: Callable[..., None]) -> None:
    """Ask a runtime, in this process.

    Args:
        target: Which.
        request: ``model``, ``shapes`` as text, and whether ``kernels`` are asked for.
        work: A folder to build in.
        note: Hears what is known as soon as it is: ``stage``, ``version``, ``refusals``, counts of kernels.
    """
    model = Path(request["model"])
    note(stage="version", version=target.version())
    note(stage="opset")
    refused = _opset(target, model, work)
    if not refused:
        note(stage="parse")
        refused = _parse(target, model)
    artifact = None
    if not refused:
        note(stage="build")
        refused, artifact = _build(target, model, work, request["shapes"])
    if artifact is not None and request["kernels"]:
        note(stage="kernels")
        note(**_kernels(target, artifact))
    note(stage="done", refusals=[asdict(each) for each in refused])


def _opset(target: Target, model: Path, work: Path) -> list[Refusal]:
    """Whether the runtime takes a model that does nothing, with the opset and IR version of this one."""
    import onnx
    from onnx import helper

    head = onnx.load(model, load_external_data=False)
    opsets = [each for each in head.opset_import if each.domain in ("", "ai.onnx")]
    x, y = (helper.make_tensor_value_info(name, FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"], "identity")], "probe", [x], [y])
    probe = helper.make_model(graph, opset_imports=opsets or None)
    probe.ir_version = head.ir_version
    path = work / "probe.onnx"
    onnx.save(probe, path)
    try:
        target.compile(path, work, CompileOptions())
    except RuntimeRefused as error:
        version = opsets[0].version if opsets else None
        return [Refusal("opset", None, f"opset {version}, IR version {head.ir_version}: {error.reason}")]
    return []


def _parse(target: Target, model: Path) -> list[Refusal]:
    """What the parser objects to; a target without a parser of its own is asked by the build."""
    parse = getattr(target, "refusals", None)
    return [_refusal("parse", each) for each in parse(model)] if parse else []


def _build(target: Target, model: Path, work: Path, shapes: list[str]) -> tuple[list[Refusal], Artifact | None]:
    options = CompileOptions(shapes=tuple(parse_shape(text) for text in shapes))
    try:
        return [], target.compile(model, work, options)
    except RuntimeRefused as error:
        guessed = not shapes and PROFILE in error.reason.lower()
        return [_refusal("guess" if guessed else "build", error)], None
    except InfoptError as error:
        return [Refusal("build", None, str(error))], None


def _kernels(target: Target, artifact: Artifact) -> dict[str, Any]:
    try:
        found = target.kernels(artifact)
    except Unmeasured:
        planned = getattr(target, "planned", None)
        if planned is None:
            return {}
        try:
            found = planned(artifact)
        except Unmeasured:
            return {}
    return {"integer": found.integer, "total": found.total, "floats": [asdict(each) for each in found.float_nodes]}


def _refusal(stage: str, error: RuntimeRefused) -> Refusal:
    return Refusal(stage, error.node, error.reason)


if __name__ == "__main__":
    main()
