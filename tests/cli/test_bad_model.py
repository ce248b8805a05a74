"""Models that cannot be used are refused with one line on stderr and exit code 2, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from infopt.errors import ModelError
from infopt.model import load

if TYPE_CHECKING:
    from conftest import Cli

DATA = ("--calib", "calib.npz", "--eval", "eval.npz", "--no-bench")


def write_external(model: str = "model.onnx", location: str = "weights.data") -> None:
    """The model again with its weights in a file beside it."""
    proto = onnx.load(model)
    options = {"save_as_external_data": True, "location": location, "size_threshold": 0}
    onnx.save_model(proto, model, convert_attribute=False, **options)


def relocate(model: str, location: str) -> None:
    """Let every external tensor of a model point elsewhere."""
    proto = onnx.load(model, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    Path(model).write_bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b"\x00" * 64,
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        b'{"model": 1}',
        np.random.default_rng(0).bytes(512),
    ],
    ids=["empty", "text", "zeros", "picture", "json", "random"],
)
def test_a_file_that_is_not_onnx(cli: Cli, content: bytes) -> None:
    Path("bad.onnx").write_bytes(content)
    cli.refuses("quantize", "bad.onnx", *DATA, says=("bad.onnx", "ONNX"))


def test_a_model_that_is_not_there_or_a_folder(cli: Cli) -> None:
    cli.refuses("quantize", "nosuch.onnx", *DATA, says=("nosuch.onnx is not a file", "give the path"))
    cli.refuses("quantize", ".", *DATA, says=("is not a file",))


def test_a_model_that_may_not_be_read(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("onnx_ir.load", denied)
    cli.refuses("quantize", "model.onnx", *DATA, says=("model.onnx", "Permission denied"))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_model(cli: Cli, share: float) -> None:
    whole = Path("model.onnx").read_bytes()
    Path("cut.onnx").write_bytes(whole[: int(len(whole) * share)])
    cli.refuses("quantize", "cut.onnx", *DATA, says=("cut.onnx", "ONNX"))


def test_a_model_is_refused_wherever_it_was_cut(work: Path) -> None:
    whole = Path("model.onnx").read_bytes()
    for length in (*range(0, len(whole), 11), *range(len(whole) - 60, len(whole))):
        Path("cut.onnx").write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"cut\.onnx"):
            load(Path("cut.onnx"))


def test_a_model_without_weights_of_its_own_is_checked_for_its_files(cli: Cli) -> None:
    write_external()
    Path("weights.data").rename("elsewhere.data")
    cli.refuses("quantize", "model.onnx", *DATA, says=("weights.data is missing", "copy it beside the model"))


def test_external_data_is_used_when_it_is_there(cli: Cli) -> None:
    write_external()
    assert cli.quantize().code == 0


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_external_data(cli: Cli, keep: int) -> None:
    write_external()
    Path("weights.data").write_bytes(Path("weights.data").read_bytes()[:keep])
    cli.refuses("quantize", "model.onnx", *DATA, says=("weights.data is truncated",))


@pytest.mark.parametrize("place", ["../weights.data", "a/../../weights.data", "{absolute}", "link.data"])
def test_external_data_outside_of_the_models_folder(cli: Cli, work: Path, place: str) -> None:
    write_external()
    outside = work / "outside" / "weights.data"
    outside.parent.mkdir()
    Path("weights.data").rename(outside)
    (work / "inside").mkdir()
    Path("model.onnx").rename("inside/model.onnx")
    Path("weights.data").symlink_to(outside)
    Path("inside/link.data").symlink_to(outside)
    relocate("inside/model.onnx", place.format(absolute=outside))
    cli.refuses("quantize", "inside/model.onnx", *DATA, says=("outside the model's folder", "beside the model"))


def test_a_link_to_a_model_needs_the_data_beside_the_link(cli: Cli, work: Path) -> None:
    write_external()
    (work / "links").mkdir()
    Path("links/model.onnx").symlink_to(work / "model.onnx")
    cli.refuses("quantize", "links/model.onnx", *DATA, says=("weights.data is missing", "beside the model"))


def test_a_constant_nodes_external_data_outside_of_the_models_folder(cli: Cli, work: Path) -> None:
    value = onnx.helper.make_tensor("secret", TensorProto.FLOAT, [1], [1.0])
    value.ClearField("float_data")
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="../secret.data")
    proto = onnx.load("model.onnx")
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["k"], "secret", value=value))
    (work / "inside").mkdir()
    Path("secret.data").write_bytes(b"\x00" * 4)
    Path("inside/model.onnx").write_bytes(proto.SerializeToString())
    cli.refuses("quantize", "inside/model.onnx", *DATA, says=("outside the model's folder",))


def test_a_model_whose_nodes_read_what_nothing_makes(cli: Cli) -> None:
    proto = onnx.load("model.onnx")
    proto.graph.node[2].input[0] = "r9"
    Path("loose.onnx").write_bytes(proto.SerializeToString())
    cli.refuses("quantize", "loose.onnx", *DATA, says=("loose.onnx", "'conv2'", "'r9', which nothing makes"))


def test_a_model_that_breaks_a_library_is_blamed_where_it_is_not_valid(cli: Cli) -> None:
    proto = onnx.load("model.onnx")
    proto.graph.initializer[1].raw_data = b"\x00" * 7
    Path("odd.onnx").write_bytes(proto.SerializeToString())
    cli.refuses("quantize", "odd.onnx", *DATA, says=("odd.onnx is not a valid ONNX model",))
    cli.refuses("simplify", "odd.onnx", "-o", "simple.onnx", says=("odd.onnx is not a valid ONNX model",))


def test_a_model_that_is_quantized_already(cli: Cli) -> None:
    assert cli.quantize("-o", "out").code == 0
    again = ("quantize", "out/model.onnx", *DATA, "-o", "again")
    cli.refuses(*again, says=("is quantized already", "--force"))
    assert cli(*again, "--force").code == 0


def test_a_model_with_an_input_that_is_no_tensor(cli: Cli) -> None:
    proto = onnx.load("model.onnx")
    sequence = helper.make_tensor_sequence_value_info("extra", TensorProto.FLOAT, None)
    proto.graph.input.append(sequence)
    Path("sequence.onnx").write_bytes(proto.SerializeToString())
    cli.refuses("quantize", "sequence.onnx", *DATA, says=("'extra'", "not a tensor"))
