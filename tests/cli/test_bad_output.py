"""Places that must not be written, full disks, and the exit codes that are not the user's mistake."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest
from onnx import helper

from infopt.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Cli

DATA = ("--calib", "calib.npz", "--eval", "eval.npz", "--no-bench")


def test_an_output_directory_that_infopt_did_not_make(cli: Cli) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    for force in ((), ("--force",)):
        cli.refuses("quantize", "model.onnx", *DATA, "-o", "mine", *force, says=("not made by infopt", "-o"))
    assert Path("mine/thesis.txt").read_text() == "years of work"


def test_an_output_directory_with_files_of_the_users(cli: Cli) -> None:
    assert cli.quantize("-o", "out").code == 0
    Path("out/notes.txt").write_text("mine")
    cli.refuses("quantize", "model.onnx", *DATA, "-o", "out", says=("notes.txt", "--force"))
    assert cli.quantize("-o", "out", "--force").code == 0
    assert not Path("out/notes.txt").exists()


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("calib.npz", ("calib.npz is a file",)),
        ("calib.npz/below", ("not a directory",)),
        (".", ("-o",)),
        ("/dev/null", ("-o",)),
    ],
)
def test_an_output_path_that_is_no_place_for_a_directory(cli: Cli, place: str, says: tuple[str, ...]) -> None:
    cli.refuses("quantize", "model.onnx", *DATA, "-o", place, says=says)


def test_an_output_directory_that_holds_an_input(cli: Cli) -> None:
    assert cli.quantize("-o", "out").code == 0
    inside = ("lies in the output directory",)
    cli.refuses("quantize", "out/model.onnx", *DATA, "--force", "-o", "out", says=inside)
    Path("out/data.npz").write_bytes(Path("calib.npz").read_bytes())
    cli.refuses("quantize", "model.onnx", "--calib", "out/data.npz", "--force", "-o", "out", says=inside)


@pytest.fixture
def small_disk(work: Path) -> Iterator[Path]:
    """A file system of 24 KiB."""
    disk = work / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("a small file system can only be mounted by root, with mount rights")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)  # runtimes leave files open where writing failed


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("spare", [0, 2, 4, 5])
def test_a_full_disk(cli: Cli, small_disk: Path, target: str, spare: int) -> None:
    (small_disk / "filler").write_bytes(b"\x00" * 4096 * (6 - spare))
    output = ("--target", target, "-o", str(small_disk / "out"))
    cli.refuses("quantize", "model.onnx", *DATA, *output, says=("disk/out", "No space left", "free some space"))


def test_a_full_disk_where_temporaries_lie(cli: Cli, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    monkeypatch.setattr("infopt.probe.FLAT", 0)  # smaller weights are given to the runtime without a file
    (small_disk / "filler").write_bytes(b"\x00" * 4096 * 6)
    cli.refuses("quantize", "model.onnx", *DATA, says=("No space left",))


def test_a_disk_that_is_full_halfway(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infopt.deliver.write_manifest", full)
    cli.refuses("quantize", "model.onnx", *DATA, says=("No space left", "free some space"))


def test_a_runtimes_refusal_names_the_node(cli: Cli) -> None:
    proto = onnx.load("model.onnx")
    proto.graph.node[1].CopyFrom(helper.make_node("Foo", ["c1"], ["r1"], "acme_node", domain="com.acme"))
    proto.opset_import.append(helper.make_opsetid("com.acme", 1))
    Path("custom.onnx").write_bytes(proto.SerializeToString())
    for command in (("quantize", "custom.onnx", *DATA), ("compile", "custom.onnx", "--no-eval")):
        cli.refuses(*command, code=5, says=("onnxruntime refused the model at node 'acme_node'", "com.acme:Foo"))
        cli.refuses(*command, "--target", "openvino", code=5, says=("refused the model",))


def test_an_absent_target_leaves_the_rest_or_is_refused_where_it_is_required(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infopt.targets.openvino.OpenVINOTarget.available", lambda _: "it is not installed")
    monkeypatch.setattr("infopt.targets.openvino.OpenVINOTarget.runnable", lambda _: "it is not installed")
    args = ("quantize", "model.onnx", *DATA, "--target", "openvino", "-o", "out")
    cli.refuses(*args, "--require-engine", code=4, says=("'openvino' is not available", "it is not installed"))
    result = cli(*args)
    assert result.code == 0
    assert "it is not installed" in result.out
    assert all(Path("out", name).exists() for name in ("model.onnx", "report.json", "manifest.json"))
    assert not Path("out/model.xml").exists()


def test_a_budget_that_is_missed_is_exit_code_3_and_the_output_stays(cli: Cli) -> None:
    missed = cli.quantize("--min-speedup", "1000", "--bench-seconds", "0.3", quick=False)
    assert (missed.code, missed.err) == (3, "\nwritten to model.onnxruntime.infopt\n")
    assert "min_speedup" in missed.out
    assert Path("model.onnxruntime.infopt/report.json").exists()
    unmeasured = cli.quantize("--min-speedup", "1.0")
    assert unmeasured.code == 3
    assert cli.quantize("--max-drop", "100%").code == 0


def test_python_gets_the_same_errors_as_classes(work: Path) -> None:
    import infopt

    Path("mine").mkdir()
    Path("mine/thesis.txt").touch()
    with pytest.raises(OutputError, match="not made by infopt") as caught:
        infopt.quantize("model.onnx", calib="calib.npz", output="mine")
    assert "another -o" in caught.value.remedy
