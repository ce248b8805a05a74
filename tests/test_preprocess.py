from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infopt.errors import DataError, OptionError
from infopt.options import build, plain
from infopt.preprocess import BUILT_IN, Preprocess, apply, load_preprocess, result_size, steps

if TYPE_CHECKING:
    from pathlib import Path


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels, mode=None)


def test_a_sample_is_pixel_times_scale_minus_mean_over_std() -> None:
    image = picture(4, 5)
    p = Preprocess(scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    sample = apply(image, p)
    expected = (np.asarray(image) / 255 - (0.1, 0.2, 0.3)) / (0.5, 0.6, 0.7)
    assert sample.dtype == np.float32
    np.testing.assert_array_equal(sample, expected.transpose(2, 0, 1).astype(np.float32))


def test_nhwc_keeps_channels_last() -> None:
    image = picture(4, 5)
    np.testing.assert_array_equal(apply(image, Preprocess(layout="NHWC", dtype="uint8")), np.asarray(image))


def test_bgr_reverses_channels_and_mean_follows_the_result() -> None:
    image = picture(2, 2)
    sample = apply(image, Preprocess(color="BGR", mean=(1.0, 2.0, 3.0)))
    pixels = np.asarray(image).astype(np.float32)
    np.testing.assert_array_equal(sample[0], pixels[..., 2] - 1)
    np.testing.assert_array_equal(sample[2], pixels[..., 0] - 3)


def test_grey_has_one_channel() -> None:
    image = picture(4, 5)
    sample = apply(image, Preprocess(color="L", dtype="uint8"))
    np.testing.assert_array_equal(sample, np.asarray(image.convert("L"))[None])


@pytest.mark.parametrize(("height", "width", "size"), [(40, 60, (48, 32)), (60, 40, (32, 48)), (50, 50, (32, 32))])
def test_an_integer_resizes_the_short_side(height: int, width: int, size: tuple[int, int]) -> None:
    image = picture(height, width)
    sample = apply(image, Preprocess(resize=32, layout="NHWC", dtype="uint8"))
    np.testing.assert_array_equal(sample, np.asarray(image.resize(size, Image.Resampling.BILINEAR)))


def test_a_pair_resizes_to_height_and_width() -> None:
    image = picture(40, 60)
    p = Preprocess(resize=(10, 20), interpolation="bicubic", layout="NHWC", dtype="uint8")
    np.testing.assert_array_equal(apply(image, p), np.asarray(image.resize((20, 10), Image.Resampling.BICUBIC)))


def test_the_crop_is_taken_from_the_centre() -> None:
    image = picture(9, 8)
    sample = apply(image, Preprocess(crop=(5, 4), layout="NHWC", dtype="uint8"))
    np.testing.assert_array_equal(sample, np.asarray(image)[2:7, 2:6])


def test_a_picture_of_the_right_size_is_not_resampled() -> None:
    image = picture(32, 48)
    p = Preprocess(resize=32, crop=(32, 48), layout="NHWC", dtype="uint8", interpolation="bicubic")
    np.testing.assert_array_equal(apply(image, p), np.asarray(image))


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.one_of(st.none(), st.integers(1, 64), st.tuples(st.integers(1, 64), st.integers(1, 64))),
    st.sampled_from([None, 1, (3, 2)]),
)
def test_the_announced_size_is_the_size_that_comes(height: int, width: int, resize: Any, crop: Any) -> None:
    try:
        p = Preprocess(resize=resize, crop=crop, layout="NHWC")
        size = result_size((height, width), p, "it")
    except (OptionError, DataError):
        return
    assert apply(Image.new("RGB", (width, height)), p).shape == (*size, 3)


def test_a_crop_larger_than_the_picture_names_the_file(tmp_path: Path) -> None:
    picture(10, 12).save(tmp_path / "small.png")
    with Image.open(tmp_path / "small.png") as image, pytest.raises(DataError, match=r"small\.png \(12x10\)"):
        apply(image, Preprocess(crop=11))


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    picture(8, 16).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        sample = apply(image, Preprocess(layout="NHWC", dtype="uint8"))
    np.testing.assert_array_equal(sample, np.rot90(np.asarray(picture(8, 16)), -1))


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    wide = np.array([[0, 257, 65535, 128 * 257]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    with Image.open(tmp_path / "wide.png") as image:
        sample = apply(image, Preprocess(color="L", dtype="uint8"))
    np.testing.assert_array_equal(sample, [[[0, 1, 255, 128]]])


def test_float_pixels_are_refused() -> None:
    with pytest.raises(DataError, match="32 bits"):
        apply(Image.new("F", (2, 2)), Preprocess())


def test_transparency_is_dropped(tmp_path: Path) -> None:
    image = picture(4, 4, "RGBA")
    expected = np.asarray(image)[..., :3]
    np.testing.assert_array_equal(apply(image, Preprocess(layout="NHWC", dtype="uint8")), expected)
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "p.png", transparency=b"\xff\x00")
    with Image.open(tmp_path / "p.png") as stored:
        sample = apply(stored, Preprocess(layout="NHWC", dtype="uint8"))
    assert (sample == (10, 20, 30)).all()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"std": (1.0, 0.0, 1.0)}, "std must not be 0"),
        ({"scale": 0.0}, "scale must not be 0"),
        ({"mean": (0.5,)}, "mean has 1 numbers, color RGB has 3"),
        ({"color": "L", "std": (1.0, 1.0, 1.0)}, "std has 3 numbers, color L has 1"),
        ({"resize": 200, "crop": 224}, "crop 224x224 is larger than resize 200"),
        ({"resize": (300, 200), "crop": (250, 224)}, "crop 224x250 is larger than resize"),
        ({"dtype": "uint8", "scale": 0.5}, "uint8 cannot hold"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        Preprocess(**values)


def test_a_crop_that_may_fit_the_long_side_is_allowed() -> None:
    assert Preprocess(resize=200, crop=(200, 300)).crop == (200, 300)


DESIGN = """
color = "RGB"
resize = 256
crop = [224, 200]
scale = 0.00392156862745098
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
layout = "NCHW"
dtype = "float32"
"""


def test_a_toml_file_is_read_and_goes_round(tmp_path: Path) -> None:
    path = tmp_path / "preprocess.toml"
    path.write_text(DESIGN)
    p = load_preprocess(str(path))
    assert p.crop == (224, 200)
    assert p.mean == (0.485, 0.456, 0.406)
    assert build(Preprocess, plain(p), "here") == p


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_names_are_known_and_go_round(name: str) -> None:
    p = load_preprocess(name)
    assert build(Preprocess, plain(p), "here") == p


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("resise = 3", "did you mean 'resize'"),
        ("resize = 0", "positive integer"),
        ("resize = [1, 2, 3]", "positive integer"),
        ("resize = [256]", "positive integer"),
        ("resize = true", "positive integer"),
        ('resize = "256"', "positive integer"),
        ('mean = [0.1, "a", 0.2]', "finite number"),
        ("mean = [nan, 0, 0]", "finite number"),
        ("mean = 0.5", "a list"),
        ('color = "CMYK"', "choose RGB, BGR, L"),
        ("color = ", "is not TOML"),
    ],
)
def test_mistakes_in_a_file_are_explained(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(OptionError, match=reason):
        load_preprocess(str(path))


def test_an_unknown_name_gets_the_nearest_and_a_missing_file_is_named() -> None:
    with pytest.raises(OptionError, match="did you mean 'imagenet'"):
        load_preprocess("imagenett")
    with pytest.raises(OptionError, match=r"nowhere\.toml does not exist"):
        load_preprocess("nowhere.toml")


def test_steps_say_what_is_done_in_order() -> None:
    assert steps(BUILT_IN["imagenet"]) == (
        "decode as RGB, upright by EXIF",
        "resize short side to 256 (bilinear)",
        "crop the centre 224x224",
        "multiply by 0.00392157",
        "subtract mean [0.485, 0.456, 0.406]",
        "divide by std [0.229, 0.224, 0.225]",
        "float32 NCHW",
    )
    assert steps(BUILT_IN["raw"]) == ("decode as RGB, upright by EXIF", "uint8 NCHW")
