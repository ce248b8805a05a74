"""Options, recipes and data that do not fit are refused with one line on stderr and exit code 2."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from typing import Any

    from conftest import Cli

PREPROCESS = 'color = "L"\nscale = 0.00392156862745098\n'
DATA = ("--calib", "calib.npz", "--eval", "eval.npz", "--no-bench")


def npz(path: str, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return path


def samples(count: int = 8, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, *(shape or (1, 8, 8)))).astype(np.float32)


def pictures(folder: str, count: int) -> Path:
    """Grey pictures 8x8 in two class folders, with ``prep.toml`` for them beside."""
    root, rng = Path(folder), np.random.default_rng(0)
    for number in range(count):
        (root / f"c{number % 2}").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(root / f"c{number % 2}" / f"{number:03}.png")
    Path("prep.toml").write_text(PREPROCESS)
    return root


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
def test_a_name_or_value_that_does_not_fit(cli: Cli, args: tuple[str, ...], says: tuple[str, ...]) -> None:
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
def test_wrong_usage_is_told_in_one_line_too(cli: Cli, args: tuple[str, ...], says: tuple[str, ...]) -> None:
    cli.refuses(*args, says=says)


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
def test_a_recipe_that_is_wrong(cli: Cli, text: str, says: tuple[str, ...]) -> None:
    Path("recipe.toml").write_text(text, encoding="latin-1")
    cli.refuses("run", "recipe.toml", says=says)


def test_a_recipe_that_is_not_there(cli: Cli) -> None:
    cli.refuses("run", "nosuch.toml", says=("nosuch.toml",))


def test_no_calibration_data(cli: Cli) -> None:
    cli.refuses("quantize", "model.onnx", says=("no calibration samples", "--calib", "--synthetic"))


def test_made_up_inputs_work_and_every_view_says_that_accuracy_was_not_measured(cli: Cli) -> None:
    result = cli("quantize", "model.onnx", "--synthetic", "--no-bench", "-o", "out")
    assert result.code == 0
    for view in (result.out, *(Path("out", name).read_text() for name in ("report.md", "report.json"))):
        assert "accuracy was not measured" in " ".join(view.split()).lower()
    first = cli("quantize", "model.onnx", "--synthetic", "--no-bench", "-o", "out", "-q").out
    assert "accuracy was NOT measured" in first
    assert '"synthetic": true' in Path("out/report.json").read_text()


def test_data_that_is_not_there(cli: Cli) -> None:
    cli.refuses("quantize", "model.onnx", "--calib", "nosuch.npz", says=("nosuch.npz does not exist",))
    cli.refuses("quantize", "model.onnx", "--calib", "calib.npz", "--eval", "nosuch", says=("nosuch does not exist",))


def test_an_empty_folder_of_data(cli: Cli) -> None:
    Path("empty").mkdir()
    cli.refuses("quantize", "model.onnx", "--calib", "empty", says=("empty folder",))
    cli.refuses("quantize", "model.onnx", "--calib", "calib.npz", "--eval", "empty", says=("empty folder",))


def test_data_of_an_unknown_kind(cli: Cli) -> None:
    Path("data.txt").write_text("1 2 3")
    cli.refuses("quantize", "model.onnx", "--calib", "data.txt", says=("data.txt", ".npz"))


def test_an_unreadable_picture_among_good_ones_is_skipped_and_told(cli: Cli) -> None:
    folder = pictures("pictures", 110)
    (folder / "c0" / "000.png").write_bytes(b"no picture")
    picture_data = ("--calib", "pictures", "--eval", "pictures", "--preprocess", "prep.toml")
    result = cli("quantize", "model.onnx", *picture_data, "--no-bench", "--json")
    assert result.code == 0, result
    assert "skipped 1 of 110 pictures as unreadable: c0/000.png" in result.out


def test_too_many_unreadable_pictures(cli: Cli) -> None:
    folder = pictures("pictures", 110)
    for name in ("c0/000.png", "c1/001.png"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    args = ("--calib", "pictures", "--preprocess", "prep.toml")
    cli.refuses("quantize", "model.onnx", *args, says=("2 of 110", "c0/000.png", "c1/001.png", "1 %"))


def test_pictures_without_preprocessing(cli: Cli) -> None:
    pictures("apart/pictures", 2)
    cli.refuses("quantize", "model.onnx", "--calib", "apart/pictures", says=("preprocess.toml", "--preprocess"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("color = ", ("prep.toml",)),
        ('colour = "L"', ("'colour'", "'color'")),
        ('color = "RGB"', ("'x'", "float32 [N, 1, 8, 8]")),
        ('color = "L"\nresize = 16', ("16x16", "8x8")),
        ('color = "L"\ncrop = 9', ("9x9",)),
        ('color = "L"\nstd = [0.0]', ("std",)),
    ],
)
def test_preprocessing_that_does_not_fit(cli: Cli, text: str, says: tuple[str, ...]) -> None:
    pictures("pictures", 4)
    Path("prep.toml").write_text(text)
    args = ("--calib", "pictures", "--preprocess", "prep.toml")
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
def test_arrays_that_do_not_fit(cli: Cli, arrays: dict[str, Any], says: tuple[str, ...]) -> None:
    bad = npz("bad.npz", **arrays)
    for data in (("--calib", bad, "--eval", "eval.npz"), ("--calib", "calib.npz", "--eval", bad)):
        cli.refuses("quantize", "model.onnx", *data, "--no-bench", says=(*says, "bad.npz"))
    cli.refuses("compile", "model.onnx", "--eval", bad, "--no-bench", says=says)


def test_integers_for_a_float_input_are_no_mistake(cli: Cli) -> None:
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
def test_labels_that_are_no_classes(cli: Cli, labels: np.ndarray, says: tuple[str, ...]) -> None:
    bad = npz("bad.npz", x=samples(), labels=labels)
    data = ("--calib", "calib.npz", "--eval", bad, "--metric", "top1", "--no-bench")
    cli.refuses("quantize", "model.onnx", *data, says=says)


def test_a_metric_that_needs_labels_is_refused_before_the_work(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_metric_file_that_is_wrong(cli: Cli, text: str, says: tuple[str, ...]) -> None:
    Path("metric.py").write_text(text)
    cli.refuses("quantize", "model.onnx", *DATA, "--metric", "metric.py:score", says=says)


class Trap:
    """Leaves a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("member", ["x.npy", "labels.npy"])
def test_pickled_arrays_are_never_loaded(cli: Cli, member: str) -> None:
    trap = np.empty(8, object)
    trap[:] = [Trap() for _ in range(8)]
    arrays = {"x": samples(), member.removesuffix(".npy"): trap}
    npz("bad.npz", **arrays)
    for data in (("--calib", "bad.npz"), ("--calib", "calib.npz", "--eval", "bad.npz")):
        cli.refuses("quantize", "model.onnx", *data, says=("bad.npz", "never loaded"))
    assert not Path("sprung").exists()


def test_a_pickle_in_an_arrays_clothes_is_never_loaded(cli: Cli) -> None:
    Path("bad.npz").write_bytes(pickle.dumps(Trap()))
    cli.refuses("quantize", "model.onnx", "--calib", "bad.npz", says=("bad.npz is damaged",))
    with zipfile.ZipFile("bad.npz", "w") as archive:
        archive.writestr("x.npy", pickle.dumps(Trap()))
    cli.refuses("quantize", "model.onnx", "--calib", "bad.npz", says=("bad.npz is damaged",))
    assert not Path("sprung").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_npz(cli: Cli, share: float) -> None:
    whole = Path("calib.npz").read_bytes()
    Path("calib.npz").write_bytes(whole[: int(len(whole) * share)])
    cli.refuses("quantize", "model.onnx", *DATA, says=("calib.npz is damaged", "numpy.savez"))


def test_an_npz_with_a_flipped_byte(cli: Cli) -> None:
    whole = bytearray(Path("calib.npz").read_bytes())
    whole[1000] ^= 0xFF
    Path("calib.npz").write_bytes(whole)
    cli.refuses("quantize", "model.onnx", *DATA, says=("calib.npz is damaged",))
