"""The embedded example through a whole recipe: pruned, simplified, quantized, compiled, measured."""

from __future__ import annotations

from pathlib import Path

import infopt

ROOT = Path(__file__).parents[2]

RECIPE = """
model = "{root}/examples/fashion/fashion.onnx"
target = "onnxruntime"
output = "out"
[calibration]
data = "{root}/calibration_data/fashion/calib"
samples = 32
[evaluation]
data = "{root}/calibration_data/fashion/eval"
seconds = 0.5
[[pass]]
use = "prune"
flops = 0.7
[[pass]]
use = "simplify"
[[pass]]
use = "quantize"
method = "fast"
"""


def test_prune_simplify_quantize_compile_on_the_embedded_example(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.format(root=ROOT))
    report = infopt.run(tmp_path / "recipe.toml")
    assert [step.name for step in report.steps] == ["prune", "simplify", "quantize"]
    assert report.result is not None
    assert report.result.flops is not None
    assert report.model.flops is not None
    assert report.result.flops <= 0.7 * report.model.flops
    assert report.result.parameters < 0.85 * report.model.parameters
    assert report.size.candidate_bytes is not None
    assert report.size.candidate_bytes < 0.5 * report.size.baseline_bytes
    assert report.accuracy is not None
    assert report.accuracy.drop < 0.03
    assert report.latency.candidate is not None
    assert report.latency.speedup is not None
    assert report.kernels.integer == report.kernels.total
    shrunk = [each for each in report.pruned if each.before and each.after and each.after < each.before]
    assert shrunk
    assert all(each.after % 8 == 0 for each in shrunk if each.after is not None)
