"""Profiles that runs leave, and the verdict on new data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drifting.conftest import COUNT, NET, WEIGHTS, pictures

import infopt
from infopt.drifting.check import capture, open_subject
from infopt.drifting.describe import CLIPPED, Facts, Key
from infopt.drifting.judge import judge
from infopt.drifting.options import DriftOptions
from infopt.drifting.profile import Profile, Recorder, merge, read_profile
from infopt.drifting.report import DriftReport
from infopt.drifting.sweep import INSIDE, RUNS
from infopt.errors import DataError, InputError, ModelError, OptionError, OutputError
from infopt.model import save

Change = Callable[[np.ndarray], np.ndarray]


def data(folder: Path, count: int = COUNT, seed: int = 5, change: Change = lambda x: x, **more: Any) -> Path:
    path = folder / "data.npz"
    np.savez(path, x=pictures(count, seed, change), **more)
    return path


def drifted(report: DriftReport) -> set[str]:
    return {each.what for each in report.statistics if each.drifted}


def test_the_same_kind_of_data_has_not_drifted(made: Path) -> None:
    report = infopt.drift(made / "out", made / "new.npz")
    assert (report.verdict, drifted(report), report.reasons) == ("no drift", set(), ())
    assert {each.of for each in report.statistics} == {"input", "output", "tensor"}
    assert {each.name for each in report.clipping} == {"x", "r", "c"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda x: x + 1, "mean"),
        (lambda x: x * 1.5, "spread"),
        (lambda x: x[:, ::-1], "difference"),
        (lambda x: x + 0.3 * np.random.default_rng(0).standard_normal(x.shape), "texture"),
        (lambda x: 255 * x, "lowest"),
    ],
    ids=["brighter", "more contrast", "channels swapped", "noise", "not normalized"],
)
def test_changed_data_have_drifted(made: Path, tmp_path: Path, change: Change, what: str) -> None:
    report = infopt.drift(made / "out", data(tmp_path, change=change))
    assert report.verdict == "drift"
    assert what in drifted(report)
    assert report.reasons


def test_false_alarms_are_rare_and_a_shift_is_found_nearly_always(made: Path, tmp_path: Path) -> None:
    subject = open_subject(made / "out", DriftOptions(inputs_only=True))

    def verdict(seed: int, shift: float) -> str:
        seen = capture(subject, data(tmp_path, seed=seed, change=lambda x: x + shift), DriftOptions())
        return judge(subject.profile, seen, DriftOptions(), ("", "")).verdict

    assert [verdict(100 + seed, 0.0) for seed in range(10)].count("drift") == 0
    assert [verdict(200 + seed, 0.6) for seed in range(10)].count("drift") >= 9


def test_clipping_is_the_share_of_values_outside_a_tensors_range(made: Path, tmp_path: Path) -> None:
    path = data(tmp_path, change=lambda x: 4 * x)
    report = infopt.drift(made / "out", path)
    known = read_profile(made / "out").ranges
    assert known is not None
    low, high = known["x"].low, known["x"].high
    inside = np.load(path)["x"]
    found = next(each for each in report.clipping if each.name == "x")
    assert found.data == pytest.approx(((inside < low) | (inside > high)).mean(), abs=0.005)
    assert found.drifted
    assert found.calibrated < 0.01


def test_less_clipping_is_no_drift_of_it(made: Path, tmp_path: Path) -> None:
    report = infopt.drift(made / "out", data(tmp_path, change=lambda x: x / 100))
    assert report.verdict == "drift"
    assert not any(each.drifted for each in report.clipping)


def test_few_samples_are_undecided_and_enough_are_told(made: Path, tmp_path: Path) -> None:
    report = infopt.drift(made / "out", data(tmp_path, count=20))
    assert report.verdict == "undecided"
    assert report.more_samples is not None
    assert f"{20 + report.more_samples} would be enough" in report.reasons[0]
    enough = infopt.drift(made / "out", data(tmp_path, count=20 + report.more_samples))
    assert enough.verdict == "no drift"


def test_a_drift_that_is_plain_with_few_samples_is_called(made: Path, tmp_path: Path) -> None:
    assert infopt.drift(made / "out", data(tmp_path, count=20, change=lambda x: 255 * x)).verdict == "drift"


def test_samples_of_a_group_count_as_one(made: Path, tmp_path: Path) -> None:
    path = data(tmp_path, group=np.arange(COUNT) // 30)
    report = infopt.drift(made / "out", path)
    assert (report.data.samples, report.data.independent, report.verdict) == (COUNT, 10, "undecided")


def test_groups_prove_less(made: Path, tmp_path: Path) -> None:
    def least(path: Path) -> float:
        report = infopt.drift(made / "out", path, inputs_only=True)
        return min(each.q for each in report.statistics if each.q is not None)

    alone = least(data(tmp_path, change=lambda x: x + 0.5))
    assert least(data(tmp_path, change=lambda x: x + 0.5, group=np.arange(COUNT) // 10)) > 100 * alone


def test_a_rise_of_clipping_below_the_limit_is_no_drift_of_it(made: Path, tmp_path: Path) -> None:
    path = data(tmp_path, change=lambda x: 4 * x)
    strict, lax = (infopt.drift(made / "out", path, clipping=limit).clipping for limit in (0.01, 0.9))
    assert any(each.drifted for each in strict)
    assert not any(each.drifted for each in lax)


def test_without_the_model_inputs_are_compared(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "out" / "profile.json", tmp_path)
    alone = infopt.drift(tmp_path / "profile.json", made / "new.npz")
    assert {each.of for each in alone.statistics} == {"input"}
    assert any("inputs alone" in text for text in alone.warnings)
    with_model = infopt.drift(tmp_path / "profile.json", made / "new.npz", model=made / "out" / "model.onnx")
    assert {each.of for each in with_model.statistics} == {"input", "output", "tensor"}


def test_equal_runs_leave_equal_profiles(made: Path, tmp_path: Path) -> None:
    infopt.quantize(made / "model.onnx", output=tmp_path / "o", calib=made / "calib.npz", no_eval=True, method="fast")
    assert (tmp_path / "o" / "profile.json").read_bytes() == (made / "out" / "profile.json").read_bytes()


def test_profiles_of_two_processes_make_one(made: Path, tmp_path: Path) -> None:
    subject, options = open_subject(made / "out", DriftOptions()), DriftOptions()
    paths = [tmp_path / f"{i}.npz" for i in range(3)]
    rows = pictures(200, 9)
    for path, part in zip(paths, (rows[:80], rows[80:], rows), strict=True):
        np.savez(path, x=part)
    one, two, whole = (capture(subject, path, options) for path in paths)
    merged = merge(one, two)
    assert merged.samples == merged.units == 200
    assert merged.sketches is not None
    assert whole.sketches is not None
    for key, each in whole.sketches.items():
        if key.what != "values":
            assert merged.sketches[key].points()[0].tolist() == pytest.approx(each.points()[0].tolist(), abs=1e-6)
    assert merged.tallies == whole.tallies
    with pytest.raises(InputError, match="different models"):
        merge(one, read_profile(other_model(tmp_path, made)))


def other_model(folder: Path, made: Path) -> Path:
    """Another output directory, of another seed of the choice of calibration samples."""
    infopt.quantize(
        made / "model.onnx", output=folder / "other", calib=made / "calib.npz", no_eval=True, method="fast", samples=40
    )
    return folder / "other"


def test_a_profile_reads_as_it_was_written(made: Path, tmp_path: Path) -> None:
    profile = read_profile(made / "out")
    (tmp_path / "profile.json").write_text(profile.text())
    assert read_profile(tmp_path).text() == (made / "out" / "profile.json").read_text()
    assert profile.sketches is not None
    assert len(profile.sketches[Key("tensor", "x", "", CLIPPED)]) == INSIDE
    assert len(profile.sketches[Key("output", "y", "", "confidence")]) >= RUNS


def test_a_model_that_takes_a_fixed_batch(build: Any, tmp_path: Path) -> None:
    save(build(NET.replace("[N,", "[8,"), **WEIGHTS).graph, tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", x=pictures(100, 1))
    infopt.quantize(
        tmp_path / "model.onnx", output=tmp_path / "out", calib=tmp_path / "calib.npz", no_eval=True, method="fast"
    )
    profile = read_profile(tmp_path / "out")
    assert profile.sketches is not None
    assert profile.samples == 100
    assert len(profile.sketches[Key("output", "y", "", "confidence")]) == 100
    assert len(profile.sketches[Key("tensor", "x", "", CLIPPED)]) == 13  # one for each batch
    assert infopt.drift(tmp_path / "out", data(tmp_path, change=lambda x: x + 2)).drifted


def test_token_ids_are_compared_by_what_occurs(build: Any, tmp_path: Path) -> None:
    net = """(int64[N,L] ids) => (float[N,4] y) {
        e = Gather(t, ids)  m = ReduceMean<axes=[1], keepdims=0>(e)  y = MatMul(m, w) }"""
    save(build(net, t=(500, 8), w=(8, 4)).graph, tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "calib.npz", ids=rng.integers(1, 50, (300, 12)))
    infopt.quantize(
        tmp_path / "model.onnx", output=tmp_path / "out", calib=tmp_path / "calib.npz", no_eval=True, method="fast"
    )
    for low, high, expected in ((1, 50, "no drift"), (1, 90, "drift")):
        np.savez(tmp_path / "new.npz", ids=rng.integers(low, high, (300, 12)))
        report = infopt.drift(tmp_path / "out", tmp_path / "new.npz", inputs_only=True)
        assert report.verdict == expected, report.reasons
    assert "ids" in drifted(report)


def test_recalibrating_makes_an_artifact_that_fits_the_data(made: Path, tmp_path: Path) -> None:
    path = data(tmp_path, change=lambda x: 4 * x)
    report = infopt.drift(made / "out", path, recalibrate=True, output=tmp_path / "new")
    assert report.drifted
    assert report.recalibrated == str(tmp_path / "new")
    again = infopt.drift(tmp_path / "new", data(tmp_path, seed=6, change=lambda x: 4 * x))
    assert again.verdict == "no drift"
    before, after = (read_profile(folder).ranges for folder in (made / "out", tmp_path / "new"))
    assert before is not None
    assert after is not None
    assert after["x"].scale > 3 * before["x"].scale


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"recalibrate": True}, OptionError, "add -o PATH"),
        ({"output": "new"}, OptionError, "add --recalibrate"),
        ({"recalibrate": True, "output": "new"}, InputError, "recipe.toml"),
        ({"psy": 1}, OptionError, "'psi'"),
        ({"false_alarms": 0.9}, OptionError, "outside"),
    ],
)
def test_options_that_do_not_fit(made: Path, tmp_path: Path, options: Any, error: Any, says: str) -> None:
    shutil.copy(made / "out" / "profile.json", tmp_path)
    with pytest.raises(error, match=says):
        infopt.drift(tmp_path / "profile.json", made / "new.npz", **options)


def test_the_profile_of_another_model_is_refused(made: Path, tmp_path: Path) -> None:
    other = other_model(tmp_path, made)
    with pytest.raises(ModelError, match="another model"):
        infopt.drift(other / "profile.json", made / "new.npz", model=made / "out" / "model.onnx")
    with pytest.raises(ModelError, match=r"give the model\.onnx of the output directory"):
        infopt.drift(other, made / "new.npz", model=made / "model.onnx")


def edited(made: Path, folder: Path, **changes: Any) -> Path:
    held = json.loads((made / "out" / "profile.json").read_text())
    path = folder / "profile.json"
    path.write_text(json.dumps({key: value for key, value in {**held, **changes}.items() if value != "gone"}))
    return path


def test_profiles_that_cannot_be_used(made: Path, tmp_path: Path) -> None:
    text = (made / "out" / "profile.json").read_text()
    held = json.loads(text)
    damaged = [{**held["sketches"][0], "kll": held["sketches"][0]["kll"][:40]}]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"schema": "infopt.profile/2"}, "update infopt"),
        ({"schema": "other/1"}, "not a profile of infopt"),
        ({"sketches": "gone"}, "before infopt kept sketches in it; run infopt quantize again"),
        ({"sketches": damaged}, "not a whole profile"),
        ({"units": "many"}, "not a whole profile"),
        ({"inputs": [{"name": "x"}]}, "not a whole profile"),
        ({"sketches": [{**held["sketches"][0], "sum": float("nan")}]}, "a sketch is damaged"),
        ({"ranges": {}}, "has no range of"),
        ({"units": 0}, "0 independent of 300"),
        ({"tallies": [{**held["tallies"][0], "counts": {"1": -3}}]}, "counts are damaged"),
        ({"samples": 0, "notes": ["calibration inputs are made up"]}, "made up"),
    ]
    for changes, says in cases:
        with pytest.raises(InputError, match=says):
            infopt.drift(edited(made, tmp_path, **changes), made / "new.npz")
    (tmp_path / "profile.json").write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="truncated or not JSON"):
        infopt.drift(tmp_path / "profile.json", made / "new.npz")
    with pytest.raises(InputError, match="there is no profile"):
        infopt.drift(tmp_path / "nothing", made / "new.npz")


def test_data_that_do_not_fit_the_model(made: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "shape.npz", x=np.zeros((5, 1, 8, 8), np.float32))
    np.savez(tmp_path / "none.npz", x=np.zeros((0, 3, 8, 8), np.float32))
    np.savez(tmp_path / "nan.npz", x=np.full((5, 3, 8, 8), np.nan, np.float32))
    for name, says in {"shape": "wants", "none": "no samples", "nan": "NaN", "absent": "does not exist"}.items():
        with pytest.raises(DataError, match=says):
            infopt.drift(made / "out", tmp_path / f"{name}.npz")


def test_made_up_calibration_samples_make_no_profile(made: Path, tmp_path: Path) -> None:
    infopt.quantize(made / "model.onnx", output=tmp_path / "out", synthetic=True, no_eval=True, method="fast")
    with pytest.raises(InputError, match="calibration inputs are made up"):
        infopt.drift(tmp_path / "out", made / "new.npz")


def test_equal_runs_give_equal_answers_above_the_size_of_a_sketch(made: Path, tmp_path: Path) -> None:
    path = data(tmp_path, count=1500)
    one, two = (infopt.drift(made / "out", path, inputs_only=True) for _ in range(2))
    assert one == two


def test_an_empty_profile_decides_nothing(made: Path, tmp_path: Path) -> None:
    report = infopt.drift(edited(made, tmp_path, sketches=[], tallies=[]), made / "new.npz")
    assert (report.verdict, report.tests) == ("undecided", 0)
    assert "nothing was compared" in report.reasons[0]


def test_what_is_no_number_any_more_has_drifted() -> None:
    def profile(lost: int, what: str = "value") -> Profile:
        recorder, rng = Recorder(), np.random.default_rng(lost)
        for index in range(500):
            number = float("nan") if index < lost else float(rng.standard_normal())
            recorder.add("output", "y", Facts({("", what): number, ("", "other"): 1.0}, {}, {}))
            recorder.count()
        return recorder.into(Profile("m"))

    def found(data: Profile) -> DriftReport:
        return judge(profile(0), data, DriftOptions(), ("", ""))

    assert found(profile(0)).verdict == found(profile(1)).verdict == "no drift"
    for lost in (250, 500):
        report = found(profile(lost))
        assert report.verdict == "drift"
        assert any(f"is not finite in {lost / 500:.1%} of the samples" in text for text in report.reasons)
    gone = found(profile(0, "another"))
    assert (gone.verdict, gone.reasons) == ("drift", ("value of output y is gone: no sample of the data has it",))


@pytest.mark.parametrize("option", ["prometheus", "markdown"])
@pytest.mark.parametrize("name", ["profile.json", "model.onnx", "report.json", "manifest.json"])
def test_an_answer_never_replaces_what_is_read(made: Path, option: str, name: str) -> None:
    before = (made / "out" / name).read_bytes()
    with pytest.raises(OutputError, match="would be overwritten"):
        infopt.drift(made / "out", made / "new.npz", **{option: made / "out" / name})
    assert (made / "out" / name).read_bytes() == before
