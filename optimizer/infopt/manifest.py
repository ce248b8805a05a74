"""``manifest.json``: what an output directory was made from, what is in it, and how to open it.

The file is one JSON object. ``record`` holds what two equal runs may differ in: reports, compiled engines,
timings, the machine and what was fastest on it. All other keys together are the identity: two runs with the
same identity did the same work and wrote the same reproducible files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from infopt.documents import Document
from infopt.errors import InputError

SCHEMA = "infopt.manifest/1"
NAME = "manifest.json"
DOCUMENT = Document(SCHEMA, NAME, "make the directory again")


@dataclass(frozen=True, slots=True)
class Record:
    """The part of a manifest outside of the identity.

    Attributes:
        files: Relative name to sha256 of the files that another run does not reproduce bit for bit: reports,
            engines. `write_manifest` adds what the caller did not name.
        timings: Seconds by step.
        environment: The machine and the process, as in the report.
        settings: Runtime settings with which the artifact is opened; where there are several to choose from, they
            were the fastest on that machine.
    """

    files: dict[str, str] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one run read, was told, and left in its output directory.

    File names are relative to the directory and use ``/``; hashes are lower-case hexadecimal sha256.

    Attributes:
        infopt: Version of infopt.
        target: Name of the target.
        graph: The target-true ONNX graph, usually ``model.onnx``.
        artifact: Main file of the compiled artifact, or ``None`` when it was not built.
        inputs: Name of an input (``model``, ``calib``) to its sha256.
        outputs: Relative name to sha256 of the reproducible files.
        options: The resolved options, as JSON holds them.
        versions: Library to version, of everything that shaped the outputs.
        record: What does not belong to the identity.
    """

    infopt: str
    target: str
    graph: str
    artifact: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    record: Record = field(default_factory=Record)


def write_manifest(directory: Path, manifest: Manifest) -> Manifest:
    """Write ``manifest.json`` as the last file of an output directory.

    Files that the manifest does not name go into its record, so that a later run knows every file here as
    infopt's own.

    Returns:
        The manifest as written, equal to what `read_manifest` gives.

    Raises:
        OSError: The file cannot be written.
    """
    others = {name: sha256_file(directory / name) for name in unlisted(directory, manifest)}
    complete = replace(manifest, record=replace(manifest.record, files=manifest.record.files | others))
    text = json.dumps(_plain(complete), indent=2, sort_keys=True, allow_nan=False)
    (directory / NAME).write_text(text + "\n", encoding="utf-8")
    return complete


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of an output directory.

    Keys that this version does not know are ignored.

    Raises:
        InputError: No manifest, not one of infopt's, of a newer schema, or damaged.
    """
    path, data = DOCUMENT.read(directory / NAME)
    try:
        return _decode(data)
    except KeyError as error:
        raise InputError(f"{path} lacks the key {error}", DOCUMENT.again) from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}", DOCUMENT.again) from error


def identity(manifest: Manifest) -> str:
    """The sha256, in hexadecimal, of the canonical JSON of everything but the record."""
    section = {key: value for key, value in _plain(manifest).items() if key != "record"}
    canonical = json.dumps(section, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def sha256_file(path: Path) -> str:
    """The sha256 of a file in hexadecimal, read in pieces whatever its size.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_source(path: Path) -> str:
    """The sha256 of a file that a run reads and does not write: it is read once, as long as it looks the same.

    Raises:
        OSError: The file cannot be read.
    """
    seen = path.stat()
    return _seen_sha256(path, seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


@lru_cache(maxsize=256)
def _seen_sha256(path: Path, *seen: int) -> str:
    return sha256_file(path)


def sha256_files(paths: Sequence[Path]) -> str:
    """One hash of files that belong together, such as a model and its external data, in their order.

    Returns:
        Of one file its sha256; of several the sha256 of theirs.

    Raises:
        OSError: One cannot be read.
    """
    digests = [sha256_source(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()


def verify(directory: Path) -> list[str]:
    """The files that are missing or no longer what the manifest says, sorted; empty when all is well.

    Raises:
        InputError: The manifest itself cannot be used.
    """
    manifest = read_manifest(directory)
    expected = manifest.record.files | manifest.outputs
    return sorted(name for name, digest in expected.items() if not _matches(directory / name, digest))


def unlisted(directory: Path, manifest: Manifest) -> list[str]:
    """The files below a directory that its manifest does not name, sorted, without the manifest itself."""
    known = {NAME, *manifest.outputs, *manifest.record.files}
    files = (path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted({path.relative_to(directory).as_posix() for path in files} - known)


def _plain(manifest: Manifest) -> dict[str, Any]:
    return {"schema": SCHEMA, **dataclasses.asdict(manifest)}


def _matches(path: Path, digest: str) -> bool:
    try:
        return sha256_file(path) == digest
    except OSError:
        return False


def _decode(data: dict[str, Any]) -> Manifest:
    record = _mapping(data["record"], "record")
    manifest = Manifest(
        infopt=_string(data["infopt"], "infopt"),
        target=_string(data["target"], "target"),
        graph=_string(data["graph"], "graph"),
        artifact=None if data["artifact"] is None else _string(data["artifact"], "artifact"),
        inputs=_strings(data["inputs"], "inputs"),
        outputs=_strings(data["outputs"], "outputs"),
        options=_mapping(data["options"], "options"),
        versions=_strings(data["versions"], "versions"),
        record=Record(
            files=_strings(record["files"], "record.files"),
            timings=_mapping(record["timings"], "record.timings"),
            environment=_mapping(record["environment"], "record.environment"),
            settings=_strings(record["settings"], "record.settings"),
        ),
    )
    main = [manifest.graph] if manifest.artifact is None else [manifest.graph, manifest.artifact]
    for name in (*main, *manifest.outputs, *manifest.record.files):
        _check_inside(name)
    return manifest


def _check_inside(name: str) -> None:
    # A manifest comes with a downloaded directory: its names must not lead to files elsewhere.
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise ValueError(f"the file name {name!r} leads out of the directory")


def _string(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key} is not a string")
    return value


def _mapping(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{key} is not an object")
    return value


def _strings(value: Any, key: str) -> dict[str, str]:
    return {name: _string(item, f"{key}.{name}") for name, item in _mapping(value, key).items()}
