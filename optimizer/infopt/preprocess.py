"""The one preprocessing contract: what happens to a picture before a model sees it.

It is written once (``preprocess.toml`` or a built-in name) and used for calibration, evaluation and
deployment alike. Resizing and cropping follow what torchvision's ``Resize`` and ``CenterCrop`` do to a PIL
picture, so a model trained there sees the pixels that it was trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image, ImageOps

from infopt.errors import DataError, OptionError, unknown
from infopt.options import Opt, build, read_toml

Size = int | tuple[int, int]

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


def _size(value: Any) -> Size:
    sides = value if isinstance(value, (list, tuple)) and len(value) == 2 else [value]
    if any(type(side) is not int or side < 1 for side in sides):
        raise ValueError("a positive integer, or [height, width], is wanted")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _numbers(value: Any) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError("a list with one number for each channel is wanted")
    if any(type(item) not in (int, float) or not math.isfinite(item) for item in value):
        raise ValueError("every item must be a finite number")
    return tuple(float(item) for item in value)


def _both(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _contradiction(p: Preprocess) -> str | None:
    for name, numbers in (("mean", p.mean), ("std", p.std)):
        if numbers is not None and len(numbers) != p.channels:
            return f"{name} has {len(numbers)} numbers, color {p.color} has {p.channels} channels"
    if p.scale == 0 or (p.std is not None and 0 in p.std):
        return f"{'scale' if p.scale == 0 else 'std'} must not be 0"
    if p.dtype == "uint8" and (p.scale != 1.0 or p.mean is not None or p.std is not None):
        return "uint8 cannot hold scaled or normalised pixels"
    if p.crop is None or p.resize is None:
        return None
    rows, columns = _both(p.crop)
    # The long side after resizing depends on the picture, so only the short one can contradict.
    short = isinstance(p.resize, int)
    height, width = _both(p.resize)
    too_large = min(rows, columns) > height if short else rows > height or columns > width
    return f"crop {columns}x{rows} is larger than resize {p.resize}" if too_large else None


@dataclass(frozen=True, slots=True)
class Preprocess:
    """What is done to a picture; the keys of ``preprocess.toml``.

    The result is ``(pixel * scale - mean) / std`` with pixels from 0 to 255, after the steps in the order of
    the fields. ``mean`` and ``std`` are in the order of the result's channels: blue first when ``color`` is
    BGR.

    Raises:
        OptionError: Values that contradict each other.
    """

    color: Annotated[Literal["RGB", "BGR", "L"], Opt("Order of the colour channels; L is grey.")] = "RGB"
    resize: Annotated[
        Size | None, Opt("Length of the short side, or [height, width].", metavar="SIZE", parse=_size)
    ] = None
    crop: Annotated[Size | None, Opt("Side or [height, width] of the centre to keep.", metavar="SIZE", parse=_size)] = (
        None
    )
    scale: Annotated[float, Opt("What a pixel (0 to 255) is multiplied by.")] = 1.0
    mean: Annotated[tuple[float, ...] | None, Opt("Subtracted after scaling, for each channel.", parse=_numbers)] = None
    std: Annotated[tuple[float, ...] | None, Opt("Divided by at the end, for each channel.", parse=_numbers)] = None
    layout: Annotated[Literal["NCHW", "NHWC"], Opt("Order of the axes that the model wants.")] = "NCHW"
    dtype: Annotated[Literal["float32", "float16", "uint8"], Opt("Type of the result.")] = "float32"
    interpolation: Annotated[Literal["bilinear", "bicubic", "nearest"], Opt("How resizing samples.")] = "bilinear"

    def __post_init__(self) -> None:
        problem = _contradiction(self)
        if problem:
            raise OptionError(f"the preprocessing contradicts itself: {problem}")

    @property
    def channels(self) -> int:
        """Number of colour channels of the result: 3, or 1 for grey."""
        return 1 if self.color == "L" else 3


BUILT_IN: dict[str, Preprocess] = {
    "imagenet": Preprocess(resize=256, crop=224, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "clip": Preprocess(
        resize=224,
        crop=224,
        scale=1 / 255,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        interpolation="bicubic",
    ),
    "unit": Preprocess(scale=1 / 255),
    "raw": Preprocess(dtype="uint8"),
}
"""Preprocessings known by name: ``unit`` gives pixels from 0 to 1, ``raw`` gives them as they are."""


def load_preprocess(name_or_path: str) -> Preprocess:
    """Find a preprocessing by its built-in name, or read it from a TOML file.

    Raises:
        OptionError: Neither a name nor a file; a file that is not TOML; a key or value that does not fit.
    """
    if name_or_path in BUILT_IN:
        return BUILT_IN[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        if path.suffix == ".toml":
            raise OptionError(f"{path} does not exist", f"pass a file or one of {', '.join(sorted(BUILT_IN))}")
        raise unknown("preprocessing", name_or_path, BUILT_IN)
    return build(Preprocess, read_toml(path, "preprocessing"), str(path))


def apply(image: Image.Image, p: Preprocess) -> np.ndarray:
    """Make one sample of a picture.

    Args:
        image: Any picture that PIL opens; the first frame counts, transparency is dropped, 16 bits become 8.
        p: What to do.

    Returns:
        ``p.dtype`` array of shape [C, H, W] or [H, W, C] as ``p.layout`` says, without a batch axis.

    Raises:
        DataError: The crop is larger than the picture, or the pixels have 32 bits and so no fixed range.
    """
    picture = upright(image, p.color)
    name = str(getattr(image, "filename", "")) or "the picture"
    sides = (picture.height, picture.width)
    height, width = _resized(sides, p)
    rows, columns = result_size(sides, p, name)
    if (height, width) != sides:
        picture = picture.resize((width, height), _FILTERS[p.interpolation])
    if (rows, columns) != (height, width):
        left, top = round((width - columns) / 2), round((height - rows) / 2)
        picture = picture.crop((left, top, left + columns, top + rows))
    pixels = np.asarray(picture).reshape(rows, columns, p.channels)
    order = range(p.channels)[::-1] if p.color == "BGR" else range(p.channels)
    planes = [table[pixels[..., channel]] for table, channel in zip(_tables(p), order, strict=True)]
    return np.stack(planes, axis=0 if p.layout == "NCHW" else -1)


def result_size(sides: tuple[int, int], p: Preprocess, name: str) -> tuple[int, int]:
    """Height and width of the sample that a picture of the given height and width becomes.

    Raises:
        DataError: The crop is larger than the picture, which ``name`` names.
    """
    height, width = _resized(sides, p)
    if p.crop is None:
        return height, width
    rows, columns = _both(p.crop)
    if rows > height or columns > width:
        before = f"{sides[1]}x{sides[0]}"
        after = before if (height, width) == sides else f"{before}, resized {width}x{height}"
        raise DataError(f"{name} ({after}) is smaller than the crop {columns}x{rows}", "set or enlarge resize")
    return rows, columns


def upright(image: Image.Image, color: str) -> Image.Image:
    """Decode a picture: turned as EXIF says, 8 bits a channel, mode RGB (or L if ``color`` is L).

    Raises:
        DataError: The pixels have 32 bits, for which no range is agreed on.
    """
    turned = ImageOps.exif_transpose(image)
    # Pillow's own conversion of 16-bit grey clips at 255 (everything turns white); older ones call it "I".
    if turned.mode.startswith("I;16") or (turned.mode == "I" and image.format == "PNG"):
        wide = np.asarray(turned).astype(np.uint32)
        turned = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if turned.mode in ("I", "F"):
        name = str(getattr(image, "filename", "")) or "the picture"
        raise DataError(f"{name} has 32 bits a pixel, whose range is unknown", "save it with 8 or 16 bits")
    if turned.mode == "P" and "transparency" in turned.info:
        turned = turned.convert("RGBA")
    return turned.convert("L" if color == "L" else "RGB")


def steps(p: Preprocess) -> tuple[str, ...]:
    """What is done, step by step, for people."""
    done = [f"decode as {p.color}, upright by EXIF"]
    if p.resize is not None:
        size = f"short side to {p.resize}" if isinstance(p.resize, int) else f"to {p.resize[1]}x{p.resize[0]}"
        done.append(f"resize {size} ({p.interpolation})")
    if p.crop is not None:
        rows, columns = _both(p.crop)
        done.append(f"crop the centre {columns}x{rows}")
    if p.scale != 1.0:
        done.append(f"multiply by {p.scale:g}")
    if p.mean is not None:
        done.append(f"subtract mean {list(p.mean)}")
    if p.std is not None:
        done.append(f"divide by std {list(p.std)}")
    return (*done, f"{p.dtype} {p.layout}")


def _resized(sides: tuple[int, int], p: Preprocess) -> tuple[int, int]:
    if p.resize is None:
        return sides
    if not isinstance(p.resize, int):
        return p.resize
    short, long = min(sides), max(sides)
    length = int(p.resize * long / short)  # rounds down, as torchvision does
    return (p.resize, length) if sides[0] <= sides[1] else (length, p.resize)


def _tables(p: Preprocess) -> list[np.ndarray]:
    """The result of each of the 256 pixel values, for each channel: exact, and faster than arithmetic."""
    pixels = np.arange(256, dtype=np.float64) * p.scale
    mean, std = p.mean or (0.0,) * p.channels, p.std or (1.0,) * p.channels
    return [((pixels - m) / s).astype(p.dtype) for m, s in zip(mean, std, strict=True)]
