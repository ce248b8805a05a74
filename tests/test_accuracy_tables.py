"""The command that measures accuracy works: on the embedded example, without the zoo and without peers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from benchmarks.accuracy import readme
from benchmarks.accuracy.__main__ import KEPT, main
from benchmarks.accuracy.bars import best_peer, own_bar, peer_bar
from benchmarks.accuracy.matrices import matrix_bytes, quantized_count
from benchmarks.accuracy.records import Measured, Peer, Run, Stream
from benchmarks.accuracy.running import Plan
from benchmarks.accuracy.stream import STREAMS, _compared
from benchmarks.accuracy.tables import sheets
from benchmarks.accuracy.variants import ABLATION, FAST, WEIGHTS
from benchmarks.bars import Bar
from benchmarks.example import embedded
from benchmarks.raw import Store, read
from benchmarks.sheets import marked, put
from benchmarks.subjects import for_target, unit
from benchmarks.variants import absent, label
from benchmarks.zoo import ZooModel

from infopt.model import save
from infopt.targets.onnxruntime import open_onnx
from infopt_passes.quantize import Quantize

if TYPE_CHECKING:
    from conftest import Build

ROOT = Path(__file__).parents[1]
NOTHING = Measured("2026-01-01", 100, 0, {"cpu": "a CPU"})


def never(row: Any) -> Any:
    raise AssertionError(f"{row} is measured again")


@pytest.fixture
def fashion(tmp_path: Path) -> ZooModel:
    """The embedded example with few pictures."""
    return embedded(tmp_path)


def test_a_run_is_measured_once_and_shown(
    fashion: ZooModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, file = Plan(fashion, "onnxruntime", FAST), tmp_path / "raw.json"
    run = Store(file, NOTHING).add(plan.row(), plan.measure)
    assert run.n == 40
    assert run.unit == 1 / 40
    assert run.drop is not None
    assert run.interval
    assert run.interval[0] <= run.drop <= run.interval[1]
    assert run.sqnr_db is not None
    assert run.sqnr_db > 10
    assert run.seconds
    assert run.quantized
    assert Store(file, read(Measured, file)).add(plan.row(), never) == run
    other = replace(plan, options={"method": "none"})
    assert Store(file, read(Measured, file)).add(other.row(), other.measure).reason == "method has no value 'none'"
    main(["--from", str(file)])
    assert f"{run.baseline:.4f}" in capsys.readouterr().out


def test_numbers_of_another_key_are_measured_again(tmp_path: Path) -> None:
    row = Run("m", "t", "v", key="old", drop=0.5)
    store = Store(tmp_path / "raw.json", NOTHING.with_rows([row]))
    assert store.add(replace(row, drop=None), never) == row
    with pytest.raises(AssertionError, match="again"):
        store.add(replace(row, key="new"), never)
    with pytest.raises(AssertionError, match="again"):
        replace(store, fresh=True).add(row, never)


@pytest.mark.parametrize("options", [*ABLATION, *WEIGHTS], ids=label)
def test_a_variant_is_an_option_of_the_pass_or_says_what_is_missing(options: dict[str, Any]) -> None:
    from infopt.options import build

    reason = absent(Quantize, options)
    if reason is None:
        assert build(Quantize, options, "variant")
    else:
        assert any(name in reason for name in options)


def test_bars_go_by_the_point_and_say_when_that_is_not_sure() -> None:
    assert str(Bar(0.005, 0.005, (0.0, 0.004))) == "met"
    assert str(Bar(0.005, 0.004, (0.0, 0.02))) == "met, undecided"
    assert str(Bar(0.005, 0.006, (0.0, 0.02))) == "NOT MET, undecided"
    assert str(Bar(0.005, 0.03, (0.01, 0.05))) == "NOT MET"


def test_the_best_peer_is_the_one_that_loses_least_in_the_runtime() -> None:
    run = Run("m", "t", "v", drop=0.008, unit=1 / 12)
    rows = [Peer("m", "t", "a", drop=0.007), Peer("m", "t", "b", drop=0.02), Peer("m", "u", "c", drop=-1.0)]
    measured = NOTHING.with_rows([*rows, Peer("m", "t", "d", reason="refused")])
    best = best_peer(measured, "m", "t")
    assert best == rows[0]
    assert peer_bar(run, best) == Bar(pytest.approx(0.009), 0.008)
    assert own_bar(run) == Bar(1 / 12, 0.008)
    assert own_bar(replace(run, unit=1 / 1000)) == Bar(0.005, 0.008)
    assert best_peer(measured, "m", "x") is None


def test_the_readme_is_changed_between_its_markers_alone(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("before\n<!-- accuracy -->\nold\n<!-- /accuracy -->\nafter\n")
    run = Run("m", "onnxruntime", label(FAST), drop=0.0012, baseline=0.9, score=0.8988, interval=(0.0, 0.003))
    measured = NOTHING.with_rows([run]).with_rows([Peer("m", "onnxruntime", "a", drop=0.0)])
    for _ in range(2):
        put(file, readme.MARK, readme.block(measured))
        text = file.read_text()
        assert text.startswith("before\n<!-- accuracy -->\nMeasured 2026-01-01 on a CPU")
        assert text.endswith(" |\n<!-- /accuracy -->\nafter\n")
        assert "old" not in text
    assert "+0.12" in readme.block(measured)
    with pytest.raises(ValueError, match="accuracy"):
        put(ROOT / "LICENSE", readme.MARK, "")


def test_matrices_are_counted_once_with_their_scales(build: Build, tmp_path: Path) -> None:
    text = """(float[N, 8] x) => (float[N, 8] y) {
        w = DequantizeLinear<axis = 1>(q, s, z)
        a = MatMul(x, w)
        b = MatMul(a, w)
        y = Mul(b, v)
    }"""
    zeros, ones = np.zeros(8, np.int8), np.ones(8, np.float32)
    model = build(text, q=np.ones((8, 8), np.int8), s=ones, z=zeros, v=ones)
    save(model.graph, tmp_path / "m.onnx")
    assert matrix_bytes(tmp_path / "m.onnx") == 64 + 8 * 4 + 8
    assert quantized_count(tmp_path / "m.onnx") == 1
    assert quantized_count(ROOT / "examples" / "fashion" / "fashion.onnx") == 0


@pytest.fixture
def leaky(build: Build, tmp_path: Path) -> ZooModel:
    """A model that adds up its input, with a state."""
    folder = tmp_path / "leaky"
    folder.mkdir()
    text = "(float[N, 1] x, float[1, N, 1] state) => (float[N, 1] y, float[1, N, 1] next) { %s }"
    body = "old = Mul(state, k) z = constant() next = Add(old, x) y = Squeeze(next, axes)".replace(
        "z = constant() ", ""
    )
    for name, keep in (("model", 0.5), ("model_op18", 0.4)):
        weights = {"k": np.float32(keep), "axes": np.array([0], np.int64)}
        save(build(text % body, **weights).graph, folder / f"{name}.onnx")
    rng = np.random.default_rng(0)
    arrays = {"x": rng.random((7, 1), np.float32), "state": np.full((1, 7, 1), 9, np.float32)}
    np.savez(folder / "eval.npz", **arrays, labels=np.arange(7) % 2)
    np.savez(folder / "calib.npz", **arrays)
    (folder / "score.py").write_text("def score(outputs, labels):\n    return float((outputs[0] > 1.5).mean())\n")
    (folder / "meta.json").write_text(json.dumps({"batch_axes": {"x": 0, "state": 1}}))
    return ZooModel(folder, tmp_path)


def test_a_stream_goes_on_from_its_own_state(leaky: ZooModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STREAMS, "leaky", ("state", 1, 0.5))
    row = Stream("leaky", "onnxruntime", "v")
    same = _compared(row, leaky, open_onnx(leaky.path, {}))
    assert same.seconds == 60
    assert same.score == same.baseline
    assert set(same.drift.values()) == {0.0}
    assert list(same.drift) == ["10", "20", "30", "40", "50", "60"]
    # From zeros and not from the 9 of the data: the sum of what was halved again and again stays below 2.
    assert max(same.size.values()) < 2
    other = _compared(row, leaky, open_onnx(leaky.folder / "model_op18.onnx", {}))
    assert min(other.drift.values()) > 0
    assert [sheet.rows[0][0] for sheet in sheets(NOTHING.with_rows([other]))] == ["leaky"]


def test_other_runtimes_get_the_form_of_the_model_that_they_read(leaky: ZooModel) -> None:
    assert for_target(leaky, "onnxruntime") == leaky
    other = for_target(leaky, "openvino")
    assert other.name == "leaky_op18"
    assert other.path.read_bytes() == (leaky.folder / "model_op18.onnx").read_bytes()
    assert unit(other) == unit(leaky) == 1 / 7


def test_the_readme_shows_the_raw_numbers_that_are_kept() -> None:
    shown = marked(readme.MARK).search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown
    assert shown[0].strip() == readme.block(read(Measured, KEPT))
