from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infopt.changes import Changes
from infopt.data import InputSpec
from infopt.errors import OptionError
from infopt.illustrate import SIDE, TEXT, _thumbnail, check_illustrations, illustrated
from infopt.preprocess import Preprocess
from infopt.readers.answers import Answers
from infopt.readers.images import load_picture, open_images
from infopt.readers.npz import open_npz
from infopt.recipe import Evaluation
from infopt.report import SampleChange
from infopt.tokens import read_vocabulary

CHANGES = Changes(samples=(SampleChange(1, None, 0.5, "a", "b"),))
SHOWN = Evaluation(samples_in_report=True)


def picture_of(uri: str | None) -> Image.Image:
    assert uri is not None
    assert uri.startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def npz(folder: Path, **arrays: np.ndarray) -> Any:
    np.savez(folder / "eval.npz", **arrays)
    specs = tuple(InputSpec(name, a.dtype, (None, *a.shape[1:]), 0) for name, a in arrays.items())
    return open_npz(folder / "eval.npz", specs, None)


def test_nothing_is_shown_unless_it_is_asked_for(tmp_path: Path) -> None:
    samples = npz(tmp_path, x=np.zeros((2, 1, 8, 8), np.float32))
    assert illustrated(CHANGES, samples, Evaluation()) is CHANGES


def test_a_pictures_thumbnail_is_small_upright_and_without_metadata(tmp_path: Path) -> None:
    for number in range(2):
        exif = Image.Exif()
        exif[0x0112], exif[0x013B] = 6, "a name"  # turned by a quarter; the artist
        Image.new("RGB", (400, 200), (200, 10, 10)).save(tmp_path / f"{number}.jpg", exif=exif)
    spec = InputSpec("x", np.dtype(np.float32), (None, 3, None, None), 0)
    samples = open_images(tmp_path, (spec,), Preprocess(resize=8, crop=8))
    (change,) = illustrated(CHANGES, samples, SHOWN).samples
    shown = picture_of(change.thumbnail)
    assert shown.size == (SIDE // 2, SIDE)
    assert not shown.getexif()
    assert len(change.thumbnail or "") < 4000
    red, green, _ = np.asarray(shown.convert("RGB"), np.int64).mean(axis=(0, 1))
    assert red > 150 > 50 > green


@pytest.mark.parametrize("shape", [(1, 8, 6), (3, 8, 6), (8, 6, 3), (8, 6)])
def test_arrays_that_look_like_pictures_have_a_thumbnail(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    (change,) = illustrated(CHANGES, npz(tmp_path, x=x), SHOWN).samples
    shown = picture_of(change.thumbnail)
    assert shown.size == (6, 8)
    if len(shape) == 2:
        wanted = (x[1] - x[1].min()) / np.ptp(x[1]) * 255
        assert np.abs(np.asarray(shown, np.float64) - wanted).max() < 40  # JPEG


@pytest.mark.parametrize("shape", [(5,), (2, 8, 6), (3, 2, 2), (1, 8)])
def test_other_arrays_have_none(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (change,) = illustrated(CHANGES, npz(tmp_path, x=np.zeros((2, *shape), np.float32)), SHOWN).samples
    assert (change.thumbnail, change.text) == (None, None)


def test_predictions_alone_have_nothing_to_show() -> None:
    samples = Answers(Path("p.npz"), 2, None, None, None)
    assert illustrated(CHANGES, samples, SHOWN).samples == CHANGES.samples


PIECES = {"[PAD]": 0, "[CLS]": 1, "play": 2, "##ing": 3, "now": 4}
SPECIAL = [{"id": 0, "content": "[PAD]", "special": True}, {"id": 1, "content": "[CLS]", "special": True}]


def tokenizer(folder: Path, model: dict[str, Any], added: list[dict[str, Any]] = SPECIAL) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({"model": model, "added_tokens": added}), encoding="utf-8")
    return path


def test_token_ids_become_text(tmp_path: Path) -> None:
    ids = np.array([[1, 4, 0, 0, 0], [1, 2, 3, 4, 0]])
    samples = npz(tmp_path, input_ids=ids, mask=(ids > 0).astype(np.int64))
    options = Evaluation(samples_in_report=True, tokenizer=tokenizer(tmp_path, {"type": "WordPiece", "vocab": PIECES}))
    check_illustrations(options)
    (change,) = illustrated(CHANGES, samples, options).samples
    assert change.text == "playing now"


def test_long_text_is_cut(tmp_path: Path) -> None:
    samples = npz(tmp_path, input_ids=np.full((2, 500), 4))
    options = Evaluation(samples_in_report=True, tokenizer=tokenizer(tmp_path, {"type": "WordPiece", "vocab": PIECES}))
    assert len(illustrated(CHANGES, samples, options).samples[0].text or "") == TEXT


@pytest.mark.parametrize(
    ("model", "ids", "text"),
    [
        ({"type": "BPE", "vocab": {"Hi": 2, "\u0120f\u00c3": 3, "\u00bcr": 4}}, [2, 3, 4, 9], "Hi f\u00fcr\ufffd"),
        ({"type": "Unigram", "vocab": [["<unk>", 0], ["x", 0], ["\u2581so", -1.5], ["me", -2]]}, [2, 3, 2], "some so"),
        ({"type": "BPE", "vocab": {"lo": 2, "w</w>": 3, "er</w>": 4}}, [2, 3, 4], "low er"),
        ({"type": "WordLevel", "vocab": {"the": 2, "cat": 3, "sat": 4}}, [2, 3, 4], "the cat sat"),
    ],
)  # fmt: skip
def test_kinds_of_tokenizers(tmp_path: Path, model: dict[str, Any], ids: list[int], text: str) -> None:
    assert read_vocabulary(tokenizer(tmp_path, model)).text(ids) == text


def test_a_list_of_tokens_is_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[unused1]\nplay\n##ing\n", encoding="utf-8")
    assert read_vocabulary(tmp_path / "vocab.txt").text([2, 3, 0]) == "playing"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {}}', '{"model": {"vocab": [1]}}', "\udcff"])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    options = Evaluation(samples_in_report=True, tokenizer=tmp_path / "tokenizer.json")
    with pytest.raises(OptionError, match="is no tokenizer"):
        check_illustrations(options)


def test_a_tokenizer_needs_its_file_and_a_use(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot read tokenizer"):
        check_illustrations(Evaluation(samples_in_report=True, tokenizer=tmp_path / "nosuch.json"))
    with pytest.raises(OptionError, match="--tokenizer does nothing alone"):
        check_illustrations(Evaluation(tokenizer=tmp_path / "nosuch.json"))


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_deep_grey_is_scaled_and_not_clipped(kind: type, tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(300, 60_000, 64)[None], 64, axis=0).astype(kind)
    Image.fromarray(ramp).save(tmp_path / "a.tiff")
    shown = _thumbnail(load_picture(tmp_path / "a.tiff"))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.split(",")[1]))).convert("L"), np.float64)
    assert pixels[32, 32] == pytest.approx(128, abs=8)
    assert np.ptp(pixels) > 240
