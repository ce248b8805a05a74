"""Small pictures and text of samples, for reports that may show them.

Samples can be private, so a report holds none of this unless ``--samples-in-report`` asks for it.
"""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from infopt.confirm import Part
from infopt.errors import OptionError
from infopt.readers.answers import Answers
from infopt.readers.images import ImageSamples, load_picture
from infopt.tokens import Vocabulary, read_vocabulary
from infopt.wording import visible

if TYPE_CHECKING:
    from infopt.changes import Changes
    from infopt.data import Feed, Samples
    from infopt.recipe import Evaluation
    from infopt.report import SampleChange

SIDE = 96
"""Longest side of a thumbnail, in pixels."""

TEXT = 300
"""Characters of a sample's text."""

_LEAST_SIDE = 4
_QUALITY = 80


def check_illustrations(options: Evaluation) -> None:
    """See to it, before any expensive work, that what is asked for can be shown.

    Raises:
        OptionError: A tokenizer that cannot be read, or that nothing asks for.
    """
    if options.tokenizer is None:
        return
    if not options.samples_in_report:
        raise OptionError("--tokenizer does nothing alone", "give --samples-in-report too")
    read_vocabulary(options.tokenizer)


def illustrated(changes: Changes, samples: Samples, options: Evaluation) -> Changes:
    """Add pictures and text to the changed samples, where the user wants them in the report.

    Args:
        changes: What changed.
        samples: The evaluation samples; a few are read again.
        options: What the user wants.
    """
    if not options.samples_in_report:
        return changes
    vocabulary = read_vocabulary(options.tokenizer) if options.tokenizer else None
    samples = samples.whole if isinstance(samples, Part) else samples  # changes tell of rows of all samples
    shown = tuple(_shown(change, samples, vocabulary) for change in changes.samples)
    return replace(changes, samples=shown)


def _shown(change: SampleChange, samples: Samples, vocabulary: Vocabulary | None) -> SampleChange:
    if isinstance(samples, (ImageSamples, Answers)) and samples.files:
        return replace(change, thumbnail=_thumbnail(load_picture(samples.files[change.index])))
    if isinstance(samples, Answers):  # without a model, arrays are not read
        return change
    feed = next(samples.batches(1, np.array([change.index]))).feed
    picture = next((found for array in feed.values() if (found := _picture(array)) is not None), None)
    return replace(
        change,
        thumbnail=None if picture is None else _thumbnail(picture),
        text=None if vocabulary is None else _text(feed, vocabulary),
    )


def _picture(array: np.ndarray) -> Image.Image | None:
    """The first sample of an array that looks like pictures: [N, C, H, W], [N, H, W, C] or [N, H, W].

    Its own extremes become black and white, since what was done to the pixels is not known.
    """
    if array.dtype.kind not in "fu" or array.ndim not in (3, 4) or not array.size:
        return None
    pixels = array[0].astype(np.float64)
    if pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, 2) if pixels.shape[0] in (1, 3) else pixels
        if pixels.shape[2] not in (1, 3):
            return None
        pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    elif array.shape[1] == 1:
        return None
    if min(pixels.shape[:2]) < _LEAST_SIDE or not np.isfinite(pixels).all():
        return None
    return _stretched(pixels)


def _stretched(pixels: np.ndarray) -> Image.Image:
    """Pixels, float64 [H, W] or [H, W, 3], as a picture whose extremes are black and white."""
    spread = np.ptp(pixels) or 1.0
    return Image.fromarray(((pixels - pixels.min()) / spread * 255).round().astype(np.uint8))


def _thumbnail(picture: Image.Image) -> str:
    """A picture as a ``data:`` URI: JPEG or PNG, whichever is smaller, without metadata."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):  # converting clips what is above 255
        picture = _stretched(np.asarray(ImageOps.exif_transpose(picture), np.float64))
    small = ImageOps.exif_transpose(picture).convert("L" if picture.mode in ("1", "L") else "RGB")
    small.thumbnail((SIDE, SIDE))
    made = {kind: _encoded(small, kind) for kind in ("png", "jpeg")}
    kind = min(made, key=lambda name: len(made[name]))
    return f"data:image/{kind};base64,{base64.b64encode(made[kind]).decode('ascii')}"


def _encoded(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    plain = Image.frombytes(picture.mode, picture.size, picture.tobytes())  # carries no comment, profile or EXIF
    plain.save(stream, kind, **({"quality": _QUALITY} if kind == "jpeg" else {"optimize": True}))
    return stream.getvalue()


def _text(feed: Feed, vocabulary: Vocabulary) -> str | None:
    """The text of the first input that holds token ids: the one with the most different whole numbers."""
    rows = [array.reshape(len(array), -1)[0] for array in feed.values() if array.dtype.kind in "iu" and array.ndim == 2]
    if not rows:
        return None
    ids = max(rows, key=lambda row: len(np.unique(row)))
    return visible(vocabulary.text([int(number) for number in ids]), TEXT)
