"""What the peers' artifacts lose in the runtime of a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from infopt import registry
from infopt.checks.ask import ask
from infopt.errors import InfoptError
from infopt.manifest import sha256_files
from infopt.target import Artifact, Settings
from infopt.targets.onnxruntime import EMULATE

from ..judging import drops
from ..raw import Store
from ..sheets import short
from ..subjects import for_target
from .matrices import quantized_count
from .records import Measured, Peer

if TYPE_CHECKING:
    from ..zoo import PeerTools, ZooModel

ONNX = ("ort-default", "ort-u8s8", "ort-dynamic", "nncf-onnx", "modelopt")
PEERS = {"onnxruntime": ONNX, "openvino": ("nncf-ov", *ONNX), "tensorrt-rtx": ONNX}
HINT = "PERFORMANCE_HINT"
SETTINGS: dict[str, dict[str, Settings]] = {
    "onnxruntime": {"": {}},
    "openvino": {"": {HINT: "LATENCY"}, " f32": {HINT: "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}},
    "tensorrt-rtx": {"": EMULATE},
}
"""What an artifact is opened with, by the words that are put behind the peer's name."""


def measure_peers(model: ZooModel, target: str, tools: PeerTools, store: Store[Measured]) -> None:
    """Put all peers' drops into the store."""
    form = for_target(model, target)
    with drops(form, _kept(tools, form)) as drop:
        for peer in PEERS[target]:
            made = tools.artifact(peer, form)
            for row, measure in _rows(model.name, target, peer, made, drop):
                store.add(row, measure)


def _kept(tools: PeerTools, model: ZooModel) -> Path:
    folder = tools.kept / model.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "drops.json"


def _rows(
    model: str, target: str, peer: str, made: Path | str, drop: Callable[[Artifact], float]
) -> Iterator[tuple[Peer, Callable[[Peer], Peer]]]:
    if isinstance(made, str):
        reason = f"it makes nothing of the model: {short(Exception(made))}"
        yield Peer(model, target, peer, reason=reason), lambda row: row
        return
    files = tuple(file for file in (made, made.with_suffix(".bin")) if file.exists())
    runtime = "onnxruntime" if target == "tensorrt-rtx" else target
    for words, settings in SETTINGS[target].items():
        key = f"{sha256_files(files)[:16]} {version(runtime)} {dict(settings)}"
        artifact = Artifact(runtime, made, files, made, settings)
        yield Peer(model, target, peer + words, key), _judged(target, artifact, drop)


def _judged(target: str, artifact: Artifact, drop: Callable[[Artifact], float]) -> Callable[[Peer], Peer]:
    def measure(row: Peer) -> Peer:
        refused = _refused(target, artifact.main) if quantized_count(artifact.main) else "it leaves all in float"
        if refused:
            return replace(row, reason=refused)
        try:
            return replace(row, drop=drop(artifact))
        except InfoptError as error:
            return replace(row, reason=short(error))

    return measure


def _refused(target: str, path: Path) -> str | None:
    """Why the parser of an emulated target does not take a graph: it is not to be compared with then."""
    if target != "tensorrt-rtx":
        return None
    answer = ask(registry.target(target), path, (), kernels=False)
    wrong = [each.reason for each in answer.refusals if each.stage not in ("build", "guess")]
    return answer.reason or (short(Exception(wrong[0])) if wrong else None)
