"""Opens anything that runs and can be compared: an ONNX file, an ORT file, an OpenVINO IR, an output of infopt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infopt import registry
from infopt.errors import InputError, Unmeasured
from infopt.evaluate import Where
from infopt.manifest import NAME, read_manifest
from infopt.model import load
from infopt.output import recover
from infopt.target import Artifact, Kernels, Session, Target
from infopt.targets.onnxruntime import EMULATE, open_onnx

BY_SUFFIX = {".onnx": "onnxruntime", ".ort": "onnxruntime", ".xml": "openvino"}
"""The target that opens a file by its suffix."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that can be compared.

    Attributes:
        path: What the user named.
        target: The runtime that it belongs to.
        artifact: What that runtime opens; for an ONNX file the file itself.
        emulated: Why its own runtime cannot run it here, so that its graph stands in.
    """

    path: Path
    target: Target
    artifact: Artifact
    emulated: str | None = None

    @property
    def where(self) -> Where:
        """Whether it runs itself or is emulated."""
        return "emulated" if self.emulated else "deployed"

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(file.stat().st_size for file in self.artifact.files)

    @contextmanager
    def open(self) -> Iterator[Session]:
        """Open it in its runtime, or emulated."""
        if self.emulated:
            yield open_onnx(self.artifact.graph, EMULATE)
        else:
            with self.target.open(self.artifact) as session:
                yield session

    def kernels(self) -> Kernels:
        """Integer kernels, as the runtime tells.

        Raises:
            Unmeasured: It cannot tell here.
        """
        if self.emulated:
            raise Unmeasured(self.emulated)
        if self.artifact.main.suffix == ".ort":
            raise Unmeasured("the graph in an .ort file is not read")
        return self.target.kernels(self.artifact)


def subject(path: Path) -> Subject:
    """Find out what a path is.

    Raises:
        InputError: It is nothing that can be compared.
    """
    if path.is_dir():
        return _from_directory(path)
    if not path.exists():
        raise InputError(f"{path} does not exist", "give an ONNX file, an OpenVINO .xml or an infopt output directory")
    if path.suffix not in BY_SUFFIX:
        known = ", ".join(BY_SUFFIX)
        raise InputError(
            f"{path} is not {known}, predictions (.npz) or an infopt output directory",
            "an engine is compared by its directory, or by predictions made with infopt predict",
        )
    target = registry.target(BY_SUFFIX[path.suffix])
    registry.require(target)
    files = {".xml": (path, path.with_suffix(".bin")), ".ort": (path,)}.get(path.suffix) or load(path).files
    _check_there(files, path)
    settings = next(iter(target.settings("float").values()))
    return Subject(path, target, Artifact(target.name, path, tuple(files), path, settings))


def _from_directory(path: Path) -> Subject:
    recover(path)
    if not (path / NAME).exists():
        raise InputError(f"{path} is not an output directory of infopt", f"there is no {NAME} in it")
    manifest = read_manifest(path)
    target = registry.target(manifest.target, manifest.options.get("isa", "auto"))
    graph = path / manifest.graph
    main = path / manifest.artifact if manifest.artifact else None
    reason = "the artifact was not built" if main is None else target.runnable()
    written = {path / name for name in (*manifest.outputs, *manifest.record.files)}
    files = (main or graph, *sorted(written.intersection(_companions(main or graph))))
    _check_there((*files, graph), path)
    return Subject(path, target, Artifact(target.name, main or graph, files, graph, manifest.record.settings), reason)


def _companions(main: Path) -> tuple[Path, ...]:
    """Files that may lie beside a model's main file and belong to it."""
    return main.with_suffix(".bin"), main.with_name(main.name + ".data")


def _check_there(files: Iterable[Path], path: Path) -> None:
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise InputError(f"{missing[0]} is missing", f"it belongs to {path.name}")
