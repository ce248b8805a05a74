"""What cannot work is refused with one line on stderr and exit code 2, and nothing is left behind."""

from __future__ import annotations

import os
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from infopt.errors import ModelError, OutputError
from infopt.model import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PREPROCESS = 'color = "L"\nscale = 0.00392156862745098\n'
DATA = ("--calib", "calib.npz", "--eval", "eval.npz", "--no-bench")


def npz(path: str, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return path


def samples(count: int = 8, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, *(shape or (1, 8, 8)))).astype(np.float32)


def pictures(folder: str, count: int) -> Path:
    """Grey pictures 8x8 in two class folders."""
    root, rng = Path(folder), np.random.default_rng(0)
    for number in range(count):
        (root / f"c{number % 2}").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(root / f"c{number % 2}" / f"{number:03}.png")
    Path("preprocess.toml").write_text(PREPROCESS)
    return root


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


# Models


@pytest.mark.parametrize(
    "content",
    [b"", b"hello\n", b"\x00" * 64, b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b'{"model": 1}', os.urandom(512)],
    ids=["empty", "text", "zeros", "picture", "json", "random"],
)
def test_a_file_that_is_not_onnx(cli, content):
    Path("bad.onnx").write_bytes(content)
    cli.refuses("quantize", "bad.onnx", *DATA, says=("bad.onnx", "ONNX"))


def test_a_model_that_is_not_there_or_a_folder(cli):
    cli.refuses("quantize", "nosuch.onnx", *DATA, says=("nosuch.onnx is not a file", "give the path"))
    cli.refuses("quantize", ".", *DATA, says=("is not a file",))


def test_a_model_that_may_not_be_read(cli, monkeypatch):
    def denied(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("onnx_ir.load", denied)
    cli.refuses("quantize", "model.onnx", *DATA, says=("model.onnx", "Permission denied"))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_model(cli, share):
    whole = Path("model.onnx").read_bytes()
    Path("cut.onnx").write_bytes(whole[: int(len(whole) * share)])
    cli.refuses("quantize", "cut.onnx", *DATA, says=("cut.onnx", "ONNX"))


def test_a_model_is_refused_wherever_it_was_cut(work):
    whole = Path("model.onnx").read_bytes()
    for length in range(len(whole)):
        Path("cut.onnx").write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"cut\.onnx"):
            load(Path("cut.onnx"))


def test_a_model_without_weights_of_its_own_is_checked_for_its_files(cli):
    write_external()
    Path("weights.data").rename("elsewhere.data")
    cli.refuses("quantize", "model.onnx", *DATA, says=("weights.data is missing", "copy it beside the model"))


def test_external_data_is_used_when_it_is_there(cli):
    write_external()
    assert cli.quantize().code == 0


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_external_data(cli, keep):
    write_external()
    Path("weights.data").write_bytes(Path("weights.data").read_bytes()[:keep])
    cli.refuses("quantize", "model.onnx", *DATA, says=("weights.data is truncated",))


@pytest.mark.parametrize("place", ["../weights.data", "a/../../weights.data", "{absolute}", "link.data"])
def test_external_data_outside_of_the_models_folder(cli, work, place):
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


def test_a_constant_nodes_external_data_outside_of_the_models_folder(cli, work):
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


def test_a_model_whose_nodes_read_what_nothing_makes(cli):
    proto = onnx.load("model.onnx")
    proto.graph.node[2].input[0] = "r9"
    Path("loose.onnx").write_bytes(proto.SerializeToString())
    cli.refuses("quantize", "loose.onnx", *DATA, says=("loose.onnx", "'conv2'", "'r9', which nothing makes"))


def test_a_model_that_breaks_a_library_is_blamed_where_it_is_not_valid(cli):
    proto = onnx.load("model.onnx")
    proto.graph.initializer[1].raw_data = b"\x00" * 7
    Path("odd.onnx").write_bytes(proto.SerializeToString())
    cli.refuses("quantize", "odd.onnx", *DATA, says=("odd.onnx is not a valid ONNX model",))
    cli.refuses("simplify", "odd.onnx", "-o", "simple.onnx", says=("odd.onnx is not a valid ONNX model",))


def test_a_model_that_is_quantized_already(cli):
    assert cli.quantize("-o", "out").code == 0
    again = ("quantize", "out/model.onnx", *DATA, "-o", "again")
    cli.refuses(*again, says=("is quantized already", "--force"))
    assert cli(*again, "--force").code == 0


def test_a_model_with_an_input_that_is_no_tensor(cli):
    proto = onnx.load("model.onnx")
    sequence = helper.make_tensor_sequence_value_info("extra", TensorProto.FLOAT, None)
    proto.graph.input.append(sequence)
    Path("sequence.onnx").write_bytes(proto.SerializeToString())
    cli.refuses("quantize", "sequence.onnx", *DATA, says=("'extra'", "not a tensor"))


# Names and values


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--target", "openvin"), ("unknown target 'openvin'", "'openvino'")),
        (("--target", "tensort"), ("'tensorrt'",)),
        (("--metric", "top-1"), ("unknown metric 'top-1'", "'top1'")),
        (("--metric", "nosuch.py:score"), ("nosuch.py", "does not exist")),
        (("--preprocess", "imagnet"), ("'imagenet'",)),
        (("--preprocess", "nosuch.toml"), ("nosuch.toml", "does not exist")),
        (("--ranges", "minmx"), ("ranges", "minmx", "minmax")),
        (("--keep-float", "conv9"), ("unknown node 'conv9'", "'conv")),
        (("--samples", "0"), ("samples", "0")),
        (("--samples", "many"), ("--samples",)),
        (("--batch", "-1"), ("batch",)),
        (("--seed", "-1"), ("seed",)),
        (("--bench-seconds", "nan"), ("seconds",)),
        (("--max-drop", "half"), ("max_drop", "half")),
        (("--max-drop", "-0.1"), ("max_drop",)),
        (("--max-drop", "5"), ("max_drop = 5", "0.5%")),
        (("--max-drop", "5", "--metric", "top1"), ("max_drop = 5", "0.5%")),
        (("--min-speedup", "-1"), ("min_speedup",)),
        (("--shape", "x"), ("--shape", "NAME=MIN..OPT..MAX")),
        (("--shape", "x=1x1x8x8..axb"), ("--shape", "'axb'")),
        (("--shape", "x=8x1x8x8..1x1x8x8"), ("--shape", "ascend")),
        (("--shape", "y=1x1x8x8"), ("unknown input 'y'",)),
        (("--shape", "x=1x3x8x8"), ("contradicts the model",)),
        (("--batch-axis", "x"), ("--batch-axis", "NAME=AXIS")),
        (("--batch-axis", "y=0"), ("unknown input 'y'", "x")),
        (("--batch-axis", "x=7"), ("no axis 7",)),
        (("--batch-axis", "x=first"), ("--batch-axis", "'first'")),
        (("--targe", "openvino"), ("--targe", "--target")),
        (("--metrics",), ("--metrics", "--metric")),
    ],
)
def test_a_name_or_value_that_does_not_fit(cli, args, says):
    cli.refuses("quantize", "model.onnx", *DATA, *args, says=says)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("quantise", "model.onnx"), ("'quantise'",)),
        (("quantize",), ("MODEL",)),
        (("simplify", "model.onnx"), ("--output",)),
        (("gate", "report.json"), ("--budget",)),
        (("quantize", "model.onnx", "--target"), ("--target",)),
    ],
)
def test_wrong_usage_is_told_in_one_line_too(cli, args, says):
    cli.refuses(*args, says=says)


# Recipes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model = ", ("recipe.toml",)),
        ("model = 'model.onnx'\n[calibration\n", ("recipe.toml",)),
        ("\xff", ("recipe.toml",)),
        ("target = 'openvino'", ("lacks 'model'",)),
        ("model = 5", ("model = 5",)),
        ("modell = 'model.onnx'", ("unknown key", "'modell'", "'model'")),
        ("model = 'model.onnx'\ntarget = 'openvin'", ("unknown target", "'openvino'")),
        ("model = 'model.onnx'\n[calibraton]\ndata = 'calib.npz'", ("'calibraton'", "'calibration'")),
        ("model = 'model.onnx'\n[calibration]\nsample = 3", ("[calibration]", "'sample'", "'samples'")),
        ("model = 'model.onnx'\n[calibration]\nsamples = 'all'", ("[calibration]", "samples", "int")),
        ("model = 'model.onnx'\ncalibration = 3", ("'calibration'", "[calibration]")),
        ("model = 'model.onnx'\n[budget]\nmax_drop = 5", ("max_drop = 5",)),
        ("model = 'model.onnx'\n[pass]\nuse = 'quantize'", ("'pass'", "[[pass]]")),
        ("model = 'model.onnx'\n[[pass]]\nranges = 'minmax'", ("'use'",)),
        ("model = 'model.onnx'\n[[pass]]\nuse = 'quantise'", ("unknown pass", "'quantize'")),
        ("model = 'model.onnx'\n[[pass]]\nuse = 'quantize'\nrange = 'x'", ("'quantize'", "'range'", "'ranges'")),
        ("model = 'model.onnx'\n[[pass]]\nuse = 'quantize'\nranges = 5", ("ranges", "minmax")),
        ("model = 'model.onnx'\n[[pass]]\nuse = 'quantize'\nranges = ['minmax']", ("ranges", "minmax")),
    ],
)
def test_a_recipe_that_is_wrong(cli, text, says):
    Path("recipe.toml").write_text(text, encoding="latin-1")
    cli.refuses("run", "recipe.toml", says=says)


def test_a_recipe_that_is_not_there(cli):
    cli.refuses("run", "nosuch.toml", says=("nosuch.toml",))


# Data


def test_no_calibration_data(cli):
    cli.refuses("quantize", "model.onnx", says=("no calibration samples", "--calib", "--synthetic"))


def test_made_up_inputs_work_and_every_view_says_that_accuracy_was_not_measured(cli):
    result = cli("quantize", "model.onnx", "--synthetic", "--no-bench", "-o", "out")
    assert result.code == 0
    for view in (result.out, *(Path("out", name).read_text() for name in ("report.md", "report.json"))):
        assert "accuracy was not measured" in " ".join(view.split()).lower()
    first = cli("quantize", "model.onnx", "--synthetic", "--no-bench", "-o", "out", "-q").out
    assert "accuracy was NOT measured" in first
    assert '"synthetic": true' in Path("out/report.json").read_text()


def test_data_that_is_not_there(cli):
    cli.refuses("quantize", "model.onnx", "--calib", "nosuch.npz", says=("nosuch.npz does not exist",))
    cli.refuses("quantize", "model.onnx", "--calib", "calib.npz", "--eval", "nosuch", says=("nosuch does not exist",))


def test_an_empty_folder_of_data(cli):
    Path("empty").mkdir()
    cli.refuses("quantize", "model.onnx", "--calib", "empty", says=("empty folder",))
    cli.refuses("quantize", "model.onnx", "--calib", "calib.npz", "--eval", "empty", says=("empty folder",))


def test_data_of_an_unknown_kind(cli):
    Path("data.txt").write_text("1 2 3")
    cli.refuses("quantize", "model.onnx", "--calib", "data.txt", says=("data.txt", ".npz"))


def test_an_unreadable_picture_among_good_ones_is_skipped_and_told(cli):
    folder = pictures("pictures", 110)
    (folder / "c0" / "000.png").write_bytes(b"no picture")
    picture_data = ("--calib", "pictures", "--eval", "pictures", "--preprocess", "preprocess.toml")
    result = cli("quantize", "model.onnx", *picture_data, "--no-bench", "--json")
    assert result.code == 0, result
    assert "skipped 1 of 110 pictures as unreadable: c0/000.png" in result.out


def test_too_many_unreadable_pictures(cli):
    folder = pictures("pictures", 110)
    for name in ("c0/000.png", "c1/001.png"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    args = ("--calib", "pictures", "--preprocess", "preprocess.toml")
    cli.refuses("quantize", "model.onnx", *args, says=("2 of 110", "c0/000.png", "c1/001.png", "1 %"))


def test_pictures_without_preprocessing(cli):
    pictures("apart/pictures", 2)
    cli.refuses("quantize", "model.onnx", "--calib", "apart/pictures", says=("preprocess.toml", "--preprocess"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("color = ", ("preprocess.toml", "TOML")),
        ('colour = "L"', ("'colour'", "'color'")),
        ('color = "RGB"', ("'x'", "float32 [N, 1, 8, 8]")),
        ('color = "L"\ndtype = "uint8"', ("'x'", "float32")),
        ('color = "L"\nresize = 16', ("16x16", "8x8")),
        ('color = "L"\ncrop = 9', ("9x9",)),
        ('color = "L"\nstd = [0.0]', ("std",)),
    ],
)
def test_preprocessing_that_does_not_fit(cli, text, says):
    pictures("pictures", 4)
    Path("preprocess.toml").write_text(text)
    args = ("--calib", "pictures", "--preprocess", "preprocess.toml")
    if "uint8" not in text:
        cli.refuses("quantize", "model.onnx", *args, says=says)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": samples(8, 3, 8, 8)}, ("'x' wants float32 [N, 1, 8, 8]", "[8, 3, 8, 8]")),
        ({"x": samples(8, 8, 8)}, ("'x' wants float32 [N, 1, 8, 8]", "[8, 8, 8]")),
        ({"x": samples().astype(np.complex64)}, ("'x' wants float32", "complex64")),
        ({"x": samples().astype(str)}, ("'x' wants float32",)),
        ({"y": samples()}, ("no array for input 'x'", "'y'")),
        ({"x": samples(), "extra": samples()}, ("extra",)),
        ({"x": samples(0)}, ("no samples",)),
        ({"x": samples(), "labels": np.zeros(5, np.int64)}, ("labels", "8 samples")),
        ({"x": samples(), "group": np.zeros(5, np.int64)}, ("group", "8 samples")),
        ({"x": np.where(np.arange(8) == 3, np.nan, 1)[:, None, None, None] * samples()}, ("NaN", "sample 3")),
        ({"x": np.where(np.arange(8) == 5, np.inf, 1)[:, None, None, None] * samples()}, ("Inf", "sample 5")),
        ({"x": np.full((8, 1, 8, 8), 1e300)}, ("Inf",)),
    ],
)
def test_arrays_that_do_not_fit(cli, arrays, says):
    bad = npz("bad.npz", **arrays)
    for data in (("--calib", bad, "--eval", "eval.npz"), ("--calib", "calib.npz", "--eval", bad)):
        cli.refuses("quantize", "model.onnx", *data, "--no-bench", says=(*says, "bad.npz"))
    cli.refuses("compile", "model.onnx", "--eval", bad, "--no-bench", says=says)


def test_integers_for_a_float_input_are_no_mistake(cli):
    npz("calib.npz", x=np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8), np.uint8))
    assert cli.quantize().code == 0


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.full(8, 4), ("label 4", "0 to 3")),
        (np.full(8, -2), ("label -2",)),
        (np.full(8, 0.5), ("whole numbers",)),
        (np.eye(4, dtype=np.int64)[np.arange(8) % 4], ("zeros and ones",)),
        (np.zeros((8, 2, 2), np.int64), ("labels",)),
    ],
)
def test_labels_that_are_no_classes(cli, labels, says):
    bad = npz("bad.npz", x=samples(), labels=labels)
    data = ("--calib", "calib.npz", "--eval", bad, "--metric", "top1", "--no-bench")
    cli.refuses("quantize", "model.onnx", *data, says=says)


def test_a_metric_that_needs_labels_is_refused_before_the_work(cli, monkeypatch):
    monkeypatch.setattr("infopt.pipeline.run", lambda *_: pytest.fail("it began to work"))
    data = ("--calib", "calib.npz", "--eval", "calib.npz", "--metric", "top1")
    cli.refuses("quantize", "model.onnx", *data, says=("'top1' needs labels", "agreement"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def score(outputs, labels):\n    raise RuntimeError('no good')", ("RuntimeError: no good",)),
        ("def score(outputs):\n    return 1.0", ("metric score failed", "TypeError")),
        ("def score(outputs, labels):\n    return float('nan')", ("nan", "finite")),
        ("def score(outputs, labels):\n    return None", ("None", "finite")),
        ("def score(outputs, labels):\n    return outputs[0]", ("finite",)),
        ("def scores(outputs, labels):\n    return 1.0", ("'score'", "'scores'")),
        ("score = 3", ("'score'",)),
        ("def score(:", ("SyntaxError",)),
        ("import nosuchmodule", ("ModuleNotFoundError", "nosuchmodule")),
        ("raise SystemExit(7)", ("SystemExit",)),
        ("OUTPUTS = [5]\ndef score(outputs, labels):\n    return 1.0", ("OUTPUTS", "5")),
        ("OUTPUTS = 'x'\ndef score(outputs, labels):\n    return 1.0", ("OUTPUTS",)),
        ("HIGHER_IS_BETTER = 'yes'\ndef score(outputs, labels):\n    return 1.0", ("HIGHER_IS_BETTER",)),
        (
            "def score(outputs, labels):\n    return 1.0\n"
            "def per_sample(outputs, labels):\n    return [float('nan')] * len(labels)",
            ("per_sample", "nan"),
        ),
        (
            "def score(outputs, labels):\n    return 1.0\ndef per_sample(outputs, labels):\n    return [1.0] * 3",
            ("per_sample", "40"),
        ),
    ],
)
def test_a_metric_file_that_is_wrong(cli, text, says):
    Path("metric.py").write_text(text)
    cli.refuses("quantize", "model.onnx", *DATA, "--metric", "metric.py:score", says=says)


# Files that would run code


class Trap:
    """Leaves a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("member", ["x.npy", "labels.npy"])
def test_pickled_arrays_are_never_loaded(cli, member):
    trap = np.empty(8, object)
    trap[:] = [Trap() for _ in range(8)]
    arrays = {"x": samples(), member.removesuffix(".npy"): trap}
    npz("bad.npz", **arrays)
    for data in (("--calib", "bad.npz"), ("--calib", "calib.npz", "--eval", "bad.npz")):
        cli.refuses("quantize", "model.onnx", *data, says=("bad.npz", "never loaded"))
    assert not Path("sprung").exists()


def test_a_pickle_in_an_arrays_clothes_is_never_loaded(cli):
    Path("bad.npz").write_bytes(pickle.dumps(Trap()))
    cli.refuses("quantize", "model.onnx", "--calib", "bad.npz", says=("bad.npz is damaged",))
    with zipfile.ZipFile("bad.npz", "w") as archive:
        archive.writestr("x.npy", pickle.dumps(Trap()))
    cli.refuses("quantize", "model.onnx", "--calib", "bad.npz", says=("bad.npz is damaged",))
    assert not Path("sprung").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_npz(cli, share):
    whole = Path("calib.npz").read_bytes()
    Path("calib.npz").write_bytes(whole[: int(len(whole) * share)])
    cli.refuses("quantize", "model.onnx", *DATA, says=("calib.npz is damaged", "numpy.savez"))


def test_an_npz_with_a_flipped_byte(cli):
    whole = bytearray(Path("calib.npz").read_bytes())
    whole[1000] ^= 0xFF
    Path("calib.npz").write_bytes(whole)
    cli.refuses("quantize", "model.onnx", *DATA, says=("calib.npz is damaged",))


# Output


def test_an_output_directory_that_infopt_did_not_make(cli):
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    for force in ((), ("--force",)):
        cli.refuses("quantize", "model.onnx", *DATA, "-o", "mine", *force, says=("not made by infopt", "-o"))
    assert Path("mine/thesis.txt").read_text() == "years of work"


def test_an_output_directory_with_files_of_the_users(cli):
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
def test_an_output_path_that_is_no_place_for_a_directory(cli, place, says):
    cli.refuses("quantize", "model.onnx", *DATA, "-o", place, says=says)


def test_an_output_directory_that_holds_an_input(cli):
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
def test_a_full_disk(cli, small_disk, target, spare):
    (small_disk / "filler").write_bytes(b"\x00" * 4096 * (6 - spare))
    output = ("--target", target, "-o", str(small_disk / "out"))
    cli.refuses("quantize", "model.onnx", *DATA, *output, says=("disk/out", "No space left", "free some space"))


def test_a_full_disk_where_temporaries_lie(cli, small_disk, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    (small_disk / "filler").write_bytes(b"\x00" * 4096 * 6)
    cli.refuses("quantize", "model.onnx", *DATA, says=("No space left",))


def test_a_disk_that_is_full_halfway(cli, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infopt.deliver.write_manifest", full)
    cli.refuses("quantize", "model.onnx", *DATA, says=("No space left", "free some space"))


# Codes that are not 2


def test_a_runtimes_refusal_names_the_node(cli):
    proto = onnx.load("model.onnx")
    proto.graph.node[1].CopyFrom(helper.make_node("Foo", ["c1"], ["r1"], "acme_node", domain="com.acme"))
    proto.opset_import.append(helper.make_opsetid("com.acme", 1))
    Path("custom.onnx").write_bytes(proto.SerializeToString())
    for command in (("quantize", "custom.onnx", *DATA), ("compile", "custom.onnx", "--no-eval")):
        cli.refuses(*command, code=5, says=("onnxruntime refused the model", "com.acme:Foo"))
        cli.refuses(*command, "--target", "openvino", code=5, says=("refused the model",))


def test_a_target_that_is_absent_leaves_the_rest_or_is_refused_where_it_is_required(cli, monkeypatch):
    monkeypatch.setattr("infopt.targets.openvino.OpenVINOTarget.available", lambda _: "it is not installed")
    monkeypatch.setattr("infopt.targets.openvino.OpenVINOTarget.runnable", lambda _: "it is not installed")
    args = ("quantize", "model.onnx", *DATA, "--target", "openvino", "-o", "out")
    cli.refuses(*args, "--require-engine", code=4, says=("'openvino' is not available", "it is not installed"))
    result = cli(*args)
    assert result.code == 0
    assert "it is not installed" in result.out
    assert all(Path("out", name).exists() for name in ("model.onnx", "report.json", "manifest.json"))
    assert not Path("out/model.xml").exists()


def test_a_budget_that_is_missed_is_exit_code_3_and_the_output_stays(cli):
    missed = cli.quantize("--min-speedup", "1000", "--bench-seconds", "0.3", quick=False)
    assert (missed.code, missed.err) == (3, "\nwritten to model.onnxruntime.infopt\n")
    assert "min_speedup" in missed.out
    assert Path("model.onnxruntime.infopt/report.json").exists()
    unmeasured = cli.quantize("--min-speedup", "1.0")
    assert unmeasured.code == 3
    assert cli.quantize("--max-drop", "100%").code == 0


def test_python_gets_the_same_errors_as_classes(work):
    import infopt

    Path("mine").mkdir()
    Path("mine/thesis.txt").touch()
    with pytest.raises(OutputError, match="not made by infopt") as caught:
        infopt.quantize("model.onnx", calib="calib.npz", output="mine")
    assert "another -o" in caught.value.remedy
