"""The command that measures pruning works: on the embedded example, without the zoo and without Torch-Pruning."""

from __future__ import annotations

import gzip
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from benchmarks.bars import Bar
from benchmarks.example import embedded
from benchmarks.processes import flags, run
from benchmarks.pruning import picture, plans, readme
from benchmarks.pruning.__main__ import KEPT, bench, main, parsed
from benchmarks.pruning.bars import at_latency, frontier, judgements
from benchmarks.pruning.duels import Fight
from benchmarks.pruning.labels import MEAN, STD, VARIABLE, calibration_labels
from benchmarks.pruning.making import _units, failure
from benchmarks.pruning.records import ALONE, INT8, THEIRS, Duel, Measured, Pruned, Speed
from benchmarks.pruning.rivals import Budget, Theirs, budget, rival_versions
from benchmarks.pruning.tables import sheets
from benchmarks.raw import Store, read
from benchmarks.sheets import marked
from benchmarks.variants import absent, label
from benchmarks.zoo import ROOT, ZooModel

if TYPE_CHECKING:
    from collections.abc import Mapping

NOTHING = Measured("2026-01-01", 0, {"cpu": "a CPU", "onnxruntime": "1.0"})


def row(variant: str, score: float, model: str = "resnet20_fashion", **more: Any) -> Pruned:
    """A row with numbers; its options are those of the variant."""
    options = {name: float(value) for name, value in (each.split("=") for each in variant.split(" ")[:1])}
    given = {"options": options, "baseline": 0.92, "drop": 0.92 - score, "unit": 1e-4, "flops": options["flops"]}
    return Pruned(model, "onnxruntime", variant, score=score, **{**given, **more})


def timed(variant: str, ratio: float, model: str = "resnet20_fashion", base_ms: float = 1.0) -> Speed:
    return Speed(model, "onnxruntime", variant, ratio=ratio, interval=(ratio, ratio), base_ms=base_ms)


def theirs(score: float, flops: float = 0.5, labels: bool = False) -> Pruned:
    options = {"recipe": "r", "flops": flops, "labels": labels}
    variant = f"torch-pruning r, flops={flops:g}"
    return replace(row("flops=0.5", score), variant=variant, tool=THEIRS, options=options, turns=7)


@pytest.fixture
def known() -> Measured:
    """Two of infopt's models and one of the others', with latencies."""
    rows = [row("flops=0.7", 0.918, seconds=50.0), row("flops=0.5", 0.91, seconds=80.0), theirs(0.9)]
    quantized = replace(rows[1], variant="flops=0.5" + INT8, score=0.909, below=0.001, below_interval=(-0.001, 0.003))
    speeds = [timed("flops=0.7", 0.8), timed("flops=0.5", 0.6), timed(rows[2].variant, 0.7)]
    duel = Duel("resnet20_fashion", "onnxruntime", rows[2].variant, "", "flops=0.5", -0.01, (-0.014, -0.006))
    return NOTHING.with_rows([*rows, quantized, *speeds, duel])


def answers(measured: Measured) -> Mapping[tuple[str, str], Bar]:
    return {(each.row.variant, each.what): each.bar for each in judgements(measured)}


def test_each_demand_is_held_against_the_rows_that_it_is_about(known: Measured) -> None:
    found = answers(known)
    assert found["flops=0.5", "drop"] == Bar(0.01, pytest.approx(0.01))
    assert found["flops=0.5", "time"] == Bar(300.0, 80.0)
    assert found["flops=0.5" + INT8, "INT8 below pruning alone"] == Bar(0.005, 0.001, (-0.001, 0.003))
    assert ("flops=0.7", "drop") not in found
    slow = known.with_rows(
        [row("flops=0.7", 0.9, "vit_fashion"), row("flops=0.7", 0.91, "minilm_sentiment", megabytes=2e3)]
    )
    found = {(each.row.model, each.what): each.bar for each in judgements(slow)}
    assert not found["vit_fashion", "drop"].met
    assert found["vit_fashion", "drop"].limit == 0.015
    assert not found["minilm_sentiment", "peak memory"].met


def test_the_bar_of_a_drop_is_one_sample_at_least() -> None:
    found = answers(NOTHING.with_rows([row("flops=0.5", 0.9, unit=0.025)]))
    assert found["flops=0.5", "drop"].limit == 0.025


def test_latency_has_to_follow_where_the_model_takes_long_enough_to_tell() -> None:
    for base_ms, ratio, met in ((1.0, 0.9, None), (4.0, 0.75, True), (4.0, 0.76, False)):
        found = answers(NOTHING.with_rows([row("flops=0.5", 0.92), timed("flops=0.5", ratio, base_ms=base_ms)]))
        bar = found.get(("flops=0.5", "latency follows operations"))
        assert (None if bar is None else bar.met) is met


def test_others_are_compared_at_the_latency_that_they_have(known: Measured) -> None:
    other = next(each for each in known.pruned if each.tool == THEIRS)
    assert at_latency(known, other) == pytest.approx((0.918 + 0.91) / 2)
    bar = answers(known)[other.variant, "infopt behind it at equal latency"]
    assert bar.value == pytest.approx(0.9 - 0.914)
    assert bar.interval == (pytest.approx(-0.018), pytest.approx(-0.01))
    assert bar.met
    assert not bar.undecided
    better = known.with_rows([replace(other, score=0.92)])
    assert str(answers(better)[other.variant, "infopt behind it at equal latency"]) == "NOT MET"


def test_the_curve_ends_at_the_float_model_and_not_beyond_the_fastest(known: Measured) -> None:
    other = next(each for each in known.pruned if each.tool == THEIRS)
    for ratio, score in ((0.9, 0.919), (1.3, 0.92), (0.6, 0.91), (0.59, 0.91), (0.5, None)):
        moved = known.with_rows([timed(other.variant, ratio)])
        found = at_latency(moved, other)
        assert found == (None if score is None else pytest.approx(score))
    assert at_latency(NOTHING.with_rows([other]), other) is None


def test_a_model_slower_than_float_is_no_point_to_compare_with(known: Measured) -> None:
    other = next(each for each in known.pruned if each.tool == THEIRS)
    slower = known.with_rows([row("flops=0.9", 0.9195), timed("flops=0.9", 1.2), timed(other.variant, 0.9)])
    assert at_latency(slower, other) == pytest.approx(0.919)


def test_a_model_that_another_beats_in_both_is_not_on_the_curve(known: Measured) -> None:
    worse = known.with_rows([row("flops=0.9", 0.909), timed("flops=0.9", 0.65)])
    assert frontier(worse, "resnet20_fashion", "onnxruntime") == [(0.6, 0.91), (0.8, 0.918)]


def test_the_readme_has_a_row_a_model_and_says_what_is_not_met(known: Measured) -> None:
    text = readme.block(known)
    assert "| resnet20_fashion | onnxruntime | `flops=0.5` | 50.0% | +1.00 | 0.60 [0.60, 0.60] |" in text
    assert text.count("`flops=0.5`") == 1
    assert "INT8`" not in text, "its numbers stand in the row of the model that was quantized"
    assert text.endswith("Of 4 bars: 4 met.")
    lost = readme.block(known.with_rows([row("flops=0.5", 0.9)]))
    assert "- resnet20_fashion, onnxruntime, `flops=0.5`: drop +2.00 (limit +1.00)" in lost


def test_the_picture_is_legible_in_light_and_dark_and_shows_each_kind(
    known: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INFOPT_CHARTS")
    quantized = known.with_rows([timed("flops=0.5" + INT8, 0.3), timed(ALONE, 0.5)])
    quantized = quantized.with_rows([replace(known.pruned[0], variant=ALONE, options={})])
    text = picture.svg(quantized)
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in text
    seen = {color for color, _ in picture.LOOKS.values() if f'fill="{color}"' in text}
    assert seen == {color for color, _ in picture.LOOKS.values()}
    assert all(f"--{name}:" in text for name in ("ink", "best", "good", "bad", "muted", "line"))
    assert len({shape for _, shape in picture.LOOKS.values()}) == len(picture.LOOKS)
    shown = picture.marks(quantized, "resnet20_fashion")
    lost = quantized.with_rows([replace(known.pruned[0], score=0.5, drop=0.42)])
    # What loses more than a panel holds would press all others together.
    assert len(picture.marks(lost, "resnet20_fashion")) == len(shown) - 1 == 5


def test_a_file_of_raw_numbers_reads_back_and_prints(
    known: Measured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, file = Store(tmp_path / "raw.json", known), tmp_path / "raw.json"
    store.add(Pruned("vit_fashion", "onnxruntime", "v", reason="no such thing"), lambda each: each)
    assert read(Measured, file) == store.measured
    main(["--from", str(file)])
    shown = capsys.readouterr().out
    assert [sheet.title.split(":")[0] for sheet in sheets(known)] == ["Pruned by infopt", "Torch-Pruning", "Bars"]
    assert "no such thing" in shown
    assert "+1.40" in shown


def test_a_row_is_measured_again_when_somebody_asks(tmp_path: Path) -> None:
    store = Store(tmp_path / "raw.json", NOTHING.with_rows([row("flops=0.5", 0.9)]))
    assert store.add(row("flops=0.5", 0.1), lambda each: each).score == 0.9
    assert store.add(row("flops=0.5", 0.1), lambda each: each, again=True).score == 0.1


@pytest.fixture
def fashion(tmp_path: Path) -> ZooModel:
    return embedded(tmp_path, 12)  # so few that quantizing takes the quick method


def test_a_model_is_pruned_quantized_fought_and_timed(
    fashion: ZooModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.pruning.speed.SECONDS", 0.2)
    monkeypatch.setattr("benchmarks.pruning.speed.ROUNDS", 8)
    monkeypatch.setitem(plans.VARIANTS, "onnxruntime", ({"flops": 0.6, "importance": "magnitude", "recover": "none"},))
    from benchmarks.pruning.__main__ import Run
    from rich.console import Console

    given = parsed(["prune", "int8", "latency", "--json", str(tmp_path / "raw.json")])
    store = Store(given.json, NOTHING)
    with bench(fashion, "onnxruntime", tmp_path / "kept") as place:
        Run(place, store, given, "not there", Console(quiet=True)).go()
        once = store.measured
        Run(place, store, given, "not there", Console(quiet=True)).go()
        assert store.measured == once, "what is known is not measured again"
        alone, plain, quantized = once.pruned
        duel = Store(None, NOTHING).add((fight := Fight(place, quantized, alone)).row(), fight.measure)
    assert plain.variant == ALONE
    assert plain.score
    assert alone.reason is quantized.reason is None
    assert 0.4 < (alone.flops or 0) < 0.61
    assert (alone.parameters or 0) < 0.8
    assert 0.3 < alone.units["channels"] < 1
    assert alone.n == 40
    assert alone.megabytes
    assert alone.wall
    assert alone.seconds is not None
    assert alone.seconds < alone.wall
    assert quantized.below == pytest.approx((alone.score or 0) - (quantized.score or 0))
    assert (quantized.compressed or 1) < (alone.compressed or 0) < 1
    assert {each.variant for each in store.measured.speeds} == {alone.variant, ALONE, quantized.variant}
    assert all(each.ratio and each.interval and each.interval[0] <= each.ratio for each in store.measured.speeds)
    assert duel.behind == pytest.approx((quantized.score or 0) - (alone.score or 0))


def test_a_row_without_its_option_or_its_interpreter_says_so(
    fashion: ZooModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infopt_passes.prune import Prune

    assert absent(Prune, {"flops": 0.5}) is None
    assert absent(Prune, {"melt": 1}) == "the pass has no option 'melt'"
    monkeypatch.delenv("INFOPT_TORCH_PRUNING_PYTHON", raising=False)
    told = rival_versions()
    assert isinstance(told, str)
    assert "is not set" in told
    monkeypatch.setenv("INFOPT_TORCH_PRUNING_PYTHON", sys.executable)
    missing = rival_versions()
    assert isinstance(missing, str)
    assert "torch" in missing
    with bench(fashion, "onnxruntime", tmp_path) as place:
        plan = Theirs(place, "group-norm", 0.5, None, Budget(1.0, 1.0), told)
        assert plan.measure(plan.row()).reason == told
        for seconds in (50.0, 80.0):
            found = replace(row("flops=0.5", 0.9, "fashion", seconds=seconds), variant=f"v{seconds}")
            known = NOTHING.with_rows([found, replace(found, variant="other", seconds=60.0, processor=9.0)])
            assert budget(known, place, 0.5) == Budget(max(seconds, 60.0), 9.0)
        assert budget(known, place, 0.7) is None


def test_labels_are_those_of_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (5, 2, 2), np.uint8), np.array([3, 1, 4, 1, 5], np.uint8)
    for name, array, header in (("images-idx3", images, 16), ("labels-idx1", labels, 8)):
        (tmp_path / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(bytes(header) + array.tobytes()))
    model = ZooModel(tmp_path / "small_fashion", tmp_path)
    model.folder.mkdir()
    shown = ((images[[4, 2]] / 255 - MEAN) / STD).astype(np.float32)
    np.savez(model.folder / "calib.npz", input=shown[:, None])
    monkeypatch.delenv(VARIABLE, raising=False)
    assert VARIABLE in str(calibration_labels(model))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert list(calibration_labels(model)) == [5, 4]
    np.savez(model.folder / "calib.npz", input=shown[:, None] + 1)
    assert str(calibration_labels(model)).startswith("2 calibration pictures are not in")


def test_units_left_are_counted_by_kind() -> None:
    told = [("units of 32 channels", 4, 3), ("channels", 16, 8), ("channels", 16, 16), ("layer", 1, 1)]
    rows = [{"unit": unit, "before": before, "after": after} for unit, before, after in told]
    assert _units(rows) == {"heads": 0.75, "channels": 0.75}


def test_a_process_tells_what_it_took_and_why_it_failed() -> None:
    done = run([sys.executable, "-c", "import sys; print(sys.stdin.read()); x = bytearray(50 << 20)"], given="hello")
    assert done.out.strip() == "hello"
    assert done.error is None
    assert done.cost.megabytes > 50
    wrong = run([sys.executable, "-c", "raise SystemExit('/a/b/no.onnx is no model')"])
    assert failure(wrong.error or "") == "no.onnx is no model"
    assert flags({"no_eval": True, "force": False, "batch_axis": ("a=0", "b=1"), "flops": 0.5}) == [
        *("--no-eval", "--batch-axis", "a=0", "--batch-axis", "b=1", "--flops", "0.5")
    ]


def test_what_is_compared_is_there_once() -> None:
    for variants in plans.VARIANTS.values():
        names = [label(options) for options in variants]
        assert len(set(names)) == len(names)
    assert set(plans.RIVAL_RECIPES) <= set(plans.MODELS)


@pytest.mark.skipif(not KEPT.exists(), reason="nothing was measured yet")
def test_the_readme_shows_the_raw_numbers_that_are_kept() -> None:
    shown = marked(readme.MARK).search((ROOT / "README.md").read_text(encoding="utf-8"))
    if shown is None:
        pytest.skip("README has no block of pruning yet")
    assert shown[0].strip() == readme.block(read(Measured, KEPT))
    assert picture.FILE.exists()
