"""Files that a user asked for do not replace those that were read."""

from __future__ import annotations

from pathlib import Path

import pytest

from infopt.errors import OutputError
from infopt.files import write_text
from infopt.manifest import Manifest, write_manifest


def test_a_file_that_was_read_is_not_overwritten_by_whatever_name(tmp_path: Path) -> None:
    read, link = tmp_path / "report.json", tmp_path / "link.json"
    read.write_text("read")
    link.symlink_to(read)
    for path in (read, link, tmp_path / "." / "report.json"):
        with pytest.raises(OutputError, match="was read and would be overwritten"):
            write_text(path, "answer", "--markdown", protect=(None, tmp_path / "absent", read))
    assert read.read_text() == "read"
    write_text(tmp_path / "new.md", "answer", "--markdown", protect=(read,))
    assert (tmp_path / "new.md").read_text() == "answer"


def test_of_an_output_directory_the_files_of_infopt_are_protected(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"model")
    (tmp_path / "report.json").write_text("report")
    write_manifest(tmp_path, Manifest("1", "onnxruntime", "model.onnx", outputs={"model.onnx": "0" * 64}))
    for name in ("model.onnx", "report.json", "manifest.json"):
        with pytest.raises(OutputError, match="was read"):
            write_text(tmp_path / name, "answer", "--junit", protect=(tmp_path,))
    for text in ("first", "second"):  # the answer of an earlier run may be replaced
        write_text(tmp_path / "gate.md", text, "--markdown", protect=(tmp_path,))
    assert (tmp_path / "gate.md").read_text() == "second"


def test_of_another_directory_every_file_is_protected(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"png")
    with pytest.raises(OutputError, match="was read"):
        write_text(tmp_path / "picture.png", "answer", protect=(tmp_path,))
    write_text(tmp_path / "new.md", "answer", protect=(tmp_path,))
