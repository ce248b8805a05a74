"""How often drift is called: on resamplings of the same data (false alarms), and on data that were changed.

All pictures are described once, as they are and changed; then samples of 500 are drawn from what is known of them. The
reference is drawn anew each time, from other pictures, so that the chance in both sides is in the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from benchmarks.zoo import ROOT, ZooModel
from PIL import Image

import infopt
from infopt.data import Batch, Feed
from infopt.drifting.check import open_subject
from infopt.drifting.judge import judge
from infopt.drifting.options import DriftOptions
from infopt.drifting.profile import Profile, Recorder
from infopt.drifting.sweep import Seen, observed, probe
from infopt.preprocess import Preprocess, apply
from infopt.target import Session

FASHION = ROOT / "calibration_data" / "fashion"
SAMPLES = 500
RESAMPLINGS = 200
TRIALS = 100
UNSEEN_TRIALS = 40
"""Drawings for each class that is left out of the reference."""
UNSEEN = 0.3
"""Their share of the new data."""
UNKNOWN = ("0", "3", "6", "9")
"""Classes that are also taken out of the model, which then has no name for them."""
PHOTOS = 40
"""The first of MobileNetV2's pictures."""
NOISE = 0.1
"""Standard deviation of the noise, of the range of pixels."""

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Pictures:
    """A quantized model and pictures to describe with it."""

    directory: Path
    files: tuple[tuple[Path, str], ...]
    """Pictures with their class."""
    sources: tuple[str, ...]
    """What each picture is made from: pictures of one source are not independent."""
    references: int
    """Sources of a reference."""


@dataclass(frozen=True)
class Batchwise:
    """Arrays as samples; just what is asked of them here."""

    rows: Callable[[int], np.ndarray]
    name: str
    groups: None = None

    def batches(self, size: int, indices: np.ndarray) -> Iterator[Batch]:
        for index in indices:
            yield Batch({self.name: self.rows(int(index))[None]}, 1)


def brightness(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(pixels * 1.2, 0, 255)


def noise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(pixels + 255 * NOISE * rng.standard_normal(pixels.shape), 0, 255)


def swapped(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return pixels[::-1]


CHANGES: dict[str, Change] = {"brightness +20 %": brightness, f"noise {NOISE:.0%}": noise, "channels swapped": swapped}


@dataclass(frozen=True)
class Ignorant:
    """A classifier that does not know a class."""

    session: Session
    without: int

    def run(self, feed: Feed) -> list[np.ndarray]:
        scores, *others = self.session.run(feed)
        return [np.delete(scores, self.without, axis=1), *others]


class Described:
    """What is known of every picture, as it is and changed; each is looked at once."""

    def __init__(self, pictures: Pictures, work: Path, without: int | None = None) -> None:
        self.pictures = pictures
        self.subject = open_subject(pictures.directory, DriftOptions())
        assert self.subject.preprocess is not None
        self.prepared = self.subject.preprocess
        (self.spec,) = self.subject.inputs
        assert self.subject.model is not None
        self.probe = probe(self.subject.model, work)
        if without is not None:
            self.probe = replace(self.probe, session=Ignorant(self.probe.session, without))
        self._seen: dict[str, list[Seen]] = {}

    def seen(self, change: str, only: Sequence[int] | None = None) -> list[Seen]:
        if change not in self._seen:
            self._seen[change] = self._look(change, range(len(self.pictures.files)) if only is None else only)
        return self._seen[change]

    def _look(self, change: str, which: Sequence[int]) -> list[Seen]:
        raw = replace(self.prepared, scale=1.0, mean=None, std=None)
        pixels = self._pixels(raw)
        rng = np.random.default_rng(7)

        def rows(index: int) -> np.ndarray:
            array = pixels(which[index]).astype(np.float64)
            changed = CHANGES[change](array, rng) if change in CHANGES else array
            return changed.astype(np.float32) if change == "not normalized" else self._normalized(changed)

        samples = Batchwise(rows, self.spec.name)
        return list(observed(samples, (self.spec,), self.probe, np.arange(len(which)), 0))  # type: ignore[arg-type]

    def _pixels(self, raw: Preprocess) -> Callable[[int], np.ndarray]:
        def pixels(index: int) -> np.ndarray:
            with Image.open(self.pictures.files[index][0]) as image:
                return apply(image, raw)

        return pixels

    def _normalized(self, pixels: np.ndarray) -> np.ndarray:
        p = self.prepared
        shape = (-1, 1, 1)
        mean, std = (np.reshape(values or default, shape) for values, default in ((p.mean, 0.0), (p.std, 1.0)))
        return ((pixels * p.scale - mean) / std).astype(np.float32)

    def profile(self, change: str, which: Sequence[int]) -> Profile:
        recorder, seen = Recorder(), self.seen(change)
        for index in which:
            for of, name, facts in seen[index]:
                recorder.add(of, name, facts)
            recorder.count(self.pictures.sources[index])
        return recorder.into(replace(self.subject.profile, sketches=None, tallies=None))

    def verdict(
        self, reference: Sequence[int], parts: Sequence[int], change: str = "as it is"
    ) -> tuple[str, tuple[str, ...]]:
        one, two = self.profile("as it is", reference), self.profile(change, parts)
        report = judge(one, two, DriftOptions(), ("calibration", "data"))
        return report.verdict, report.reasons


Unseen = dict[str, tuple[list[int], list[int]]]
"""Pictures that a reference is drawn from, and those of a class that it does not have, by name of the class."""


def measure(described: Described, unseen: Unseen) -> tuple[float, dict[str, float]]:
    """Print and return the share of false alarms, and that of changes that were found."""
    pictures = described.pictures
    every, rng = list(range(len(pictures.files))), np.random.default_rng(0)
    said = [described.verdict(*drawn(pictures, every, SAMPLES, rng)) for _ in range(RESAMPLINGS)]
    alarms = told("same data", said)
    found = {}
    for change in [*CHANGES, "not normalized"]:
        if change != "channels swapped" or described.prepared.channels > 1:
            said = [described.verdict(*drawn(pictures, every, SAMPLES, rng), change) for _ in range(TRIALS)]
            found[change] = told(change, said)
    return alarms, found | found_unseen(described, unseen)


def found_unseen(described: Described, unseen: Unseen) -> dict[str, float]:
    """Print and return how often a class that the reference does not have is found."""
    found, rng, share = {}, np.random.default_rng(1), round(UNSEEN * SAMPLES)
    for name, (known, new) in unseen.items():
        said = []
        for _ in range(UNSEEN_TRIALS):
            reference, data = drawn(described.pictures, known, SAMPLES - share, rng)
            said.append(described.verdict(reference, [*data, *rng.choice(new, share, replace=len(new) < share)]))
        found[name] = told(name, said)
    return found


def told(name: str, said: Sequence[tuple[str, tuple[str, ...]]]) -> float:
    """Print the rates of the verdicts; returns that of drift."""
    verdicts = [verdict for verdict, _ in said]
    rate = {each: verdicts.count(each) / len(verdicts) for each in ("drift", "no drift", "undecided")}
    print(
        f"{name}: {', '.join(f'{each} {value:.1%}' for each, value in rate.items())} of {len(said)}; {said[0][1][:1]}"
    )
    return rate["drift"]


def drawn(
    pictures: Pictures, which: Sequence[int], count: int, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """A reference, and so many pictures of other sources than its own, drawn again where there are too few."""
    sources = np.array(pictures.sources)
    chosen = rng.permutation(np.unique(sources[which]))[: pictures.references]
    inside = np.isin(sources[which], chosen)
    first, rest = np.array(which)[inside], np.array(which)[~inside]
    return first.tolist(), rng.choice(rest, count, replace=len(rest) < count).tolist()


@cache
def fashion_labels() -> dict[str, str]:
    lines = (FASHION / "eval" / "labels.csv").read_text().split()[1:]
    return dict(line.split(",") for line in lines)


def test_fashion(tmp_path: Path) -> None:
    out = tmp_path / "out"
    infopt.quantize(
        ROOT / "examples" / "fashion" / "fashion.onnx", output=out, calib=FASHION / "calib", no_eval=True, method="fast"
    )
    files = tuple((FASHION / "eval" / name, label) for name, label in sorted(fashion_labels().items()))
    pictures = Pictures(out, files, tuple(str(i) for i in range(len(files))), 300)
    unseen = {}
    for label in sorted({label for _, label in files}):
        known = [i for i, (_, each) in enumerate(files) if each != label]
        unseen[label] = known, sorted(set(range(len(files))) - set(known))
    named = {f"class {label} unseen": each for label, each in unseen.items()}
    alarms, found = measure(Described(pictures, tmp_path), named)
    for label in UNKNOWN:
        ignorant = Described(pictures, tmp_path, without=int(label))
        found |= found_unseen(ignorant, {f"class {label} unseen and unknown to the model": unseen[label]})
    assert alarms <= 0.05
    assert {name: rate for name, rate in found.items() if rate < 0.95} == {}


def source(index: int) -> str:
    """What a picture of MobileNetV2's evaluation data is made from: 20 photos, mirrored; stamps on 3 backgrounds."""
    return f"photo {index // 2}" if index < PHOTOS else f"stamp {(index - PHOTOS) // 3}"


@pytest.mark.parametrize("model", ["mobilenetv2_imagenet"], indirect=True)
def test_mobilenet(tmp_path: Path, model: ZooModel) -> None:
    out = tmp_path / "out"
    infopt.quantize(model.path, output=out, no_eval=True, method="fast", **model.calibration)
    size = (out / "profile.json").stat().st_size
    print(f"\n{model.name}: profile of {size / 1e6:.3f} MB")
    assert size < 1e6
    files = tuple((file, "") for file in sorted((model.folder / "eval").glob("*.jpg")))
    sources = tuple(source(index) for index in range(len(files)))
    described = Described(Pictures(out, files, sources, len(set(sources)) // 2), tmp_path)
    stamps = list(range(PHOTOS, len(files)))
    alarms, found = measure(described, {"photos unseen": (stamps, list(range(PHOTOS)))})
    assert alarms <= 0.05
    assert {name: rate for name, rate in found.items() if rate < 0.95 and name in (*CHANGES, "not normalized")} == {}
