"""compare and predict from the command line, with the real runtimes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import infopt
from infopt import registry
from infopt.comparing.result import Comparison
from infopt.report import Report, read_report

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
FASHION = ROOT / "examples" / "fashion" / "fashion.onnx"
EVAL = ROOT / "calibration_data" / "fashion" / "eval"
DATA = ("--eval", "eval.npz", "--no-bench")


def wrong_model(path: str = "wrong.onnx") -> str:
    """The tiny model with its classifier's sign turned."""
    proto = onnx.load("model.onnx")
    proto.graph.node[-1].attribute.append(onnx.helper.make_attribute("alpha", -1.0))
    Path(path).write_bytes(proto.SerializeToString())
    return path


def compared(cli: Cli, *args: object) -> Any:
    result = cli("compare", *args, *DATA, "--json")
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


def pictures(count: int) -> Path:
    """The first pictures of the example's evaluation data."""
    rows = (EVAL / "labels.csv").read_text().splitlines()[: count + 1]
    folder = Path("pictures")
    folder.mkdir()
    (folder / "labels.csv").write_text("\n".join(rows))
    for row in rows[1:]:
        name = row.partition(",")[0]
        (folder / name).write_bytes((EVAL / name).read_bytes())
    return folder


def outputs() -> np.ndarray:
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"x": np.load("eval.npz")["x"]})
    return np.asarray(logits)


def test_several_candidates_are_one_comparison(cli: Cli) -> None:
    assert cli.quantize("-o", "ort").code == 0
    found = compared(cli, "model.onnx", "ort", wrong_model(), "ort/model.optimized.onnx")
    assert (found["schema"], found["base"]) == ("infopt.comparison/1", "model.onnx")
    assert [report["candidate"] for report in found["reports"]] == ["ort", "wrong.onnx", "ort/model.optimized.onnx"]
    scores = [report["accuracy"]["candidate"] for report in found["reports"]]
    assert scores[0] == scores[2] > 0.9 > scores[1]
    alone = compared(cli, "model.onnx", "wrong.onnx")
    assert alone["schema"] == "infopt.report/1"
    for key in ("accuracy", "fidelity", "classes", "samples"):
        assert found["reports"][1][key] == alone[key]


def test_the_worst_verdict_is_the_exit_code(cli: Cli) -> None:
    wrong_model()
    assert cli("compare", "model.onnx", "model.onnx", "model.onnx", *DATA, "--max-drop", "20%").code == 0
    for order in (("model.onnx", "wrong.onnx"), ("wrong.onnx", "model.onnx")):
        result = cli("compare", "model.onnx", *order, *DATA, "--max-drop", "20%")
        assert result.code == 3
        assert "wrong.onnx: FAIL" in result.out
        assert "model.onnx: PASS" in result.out


def test_one_table_tells_of_all_candidates(cli: Cli) -> None:
    wrong_model("a|b.onnx")
    result = cli("compare", "model.onnx", "model.onnx", "a|b.onnx", *DATA, "--markdown", "c.md")
    table = result.out.split("Candidates")[1]
    rows = [line for line in table.splitlines() if line.startswith(("model.onnx", "a|b.onnx"))]
    assert len(rows) == 2
    assert "worst class's drop" in table
    assert [row.split()[1] for row in rows] == ["1.0000", "1.0000"]
    text = Path("c.md").read_text()
    assert text.startswith("### Candidates")
    assert "| `model.onnx` | 1.0000 | 1.0000 |" in text
    assert "a|b" not in text
    assert len(text) < 3000


def test_markdown_of_one_candidate_is_its_report(cli: Cli) -> None:
    assert cli("compare", "model.onnx", "model.onnx", *DATA, "--markdown", "c.md").code == 0
    assert Path("c.md").read_text().startswith("**PASS candidate for onnxruntime: top1 1.0000")
    cli.refuses("compare", "model.onnx", "model.onnx", *DATA, "--markdown", "nosuch/c.md", says=("cannot write",))
    for read in ("model.onnx", "eval.npz"):
        cli.refuses("compare", "model.onnx", "model.onnx", *DATA, "--markdown", read, says=(f"{read} was read",))
    assert cli("compare", "model.onnx", "model.onnx", *DATA, "--markdown", "-").out.startswith("**PASS candidate")
    cli.refuses("compare", "model.onnx", "model.onnx", *DATA, "--markdown", "-", "--json", says=("both want stdout",))


def test_every_candidate_is_timed_against_the_same_base(cli: Cli) -> None:
    wrong_model()
    timed = infopt.compare("model.onnx", "model.onnx", "wrong.onnx", eval="eval.npz", bench_seconds=0.3)
    assert isinstance(timed, Comparison)
    first, second = (report.latency for report in timed.reports)
    assert first.baseline_float == second.baseline_float
    assert first.candidate is not None
    assert second.candidate is not None
    assert (first.candidate.setting, second.candidate.setting) == ("model.onnx", "wrong.onnx")
    assert first.candidate.ms != second.candidate.ms
    assert min(first.speedup or 0, second.speedup or 0) > 0


def test_a_file_of_onnx_runtimes_own_format_is_compared(cli: Cli) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = "model.ort"
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
    for base, candidate in (("model.onnx", "model.ort"), ("model.ort", "model.onnx"), ("model.ort", "model.ort")):
        report = compared(cli, base, candidate)
        assert report["accuracy"]["candidate"] == 1.0
        assert report["fidelity"][0]["sqnr_db"] > 100
    assert report["kernels"]["reason"] == "the graph in an .ort file is not read"
    Path("broken.ort").write_bytes(Path("model.ort").read_bytes()[:200])
    cli.refuses("compare", "model.onnx", "broken.ort", *DATA, code=5)


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_predictions_stand_for_what_made_them(cli: Cli, target: str) -> None:
    assert cli.quantize("--target", target, "-o", "out").code == 0
    made = cli("predict", "out", "--eval", "eval.npz", "-o", "p.npz")
    assert (made.code, made.out) == (0, "p.npz: logits of 40 samples\n")
    ran, read = (compared(cli, "model.onnx", candidate) for candidate in ("out", "p.npz"))
    for key in ("accuracy", "fidelity", "classes", "samples"):
        assert ran[key] == read[key]
    for key in ("latency", "kernels", "size"):
        assert "predictions" in read[key]["reason"]
    assert read["target"] is None
    assert any("the model was not run here" in warning for warning in read["warnings"])


def test_the_base_may_be_predictions_too(cli: Cli) -> None:
    assert cli("predict", "model.onnx", "--eval", "eval.npz", "-o", "base.npz", "-q").code == 0
    assert cli("predict", wrong_model(), "--eval", "eval.npz", "-o", "wrong.npz").code == 0
    known = compared(cli, "model.onnx", "wrong.onnx")
    for base, candidate in (("base.npz", "wrong.onnx"), ("base.npz", "wrong.npz")):
        found = compared(cli, base, candidate)
        for key in ("accuracy", "fidelity", "classes", "samples"):
            assert found[key] == known[key]
        assert found["data"]["eval"] == known["data"]["eval"]
        assert found["latency"]["speedup"] is None


def test_predictions_alone_are_compared_without_data(cli: Cli) -> None:
    np.savez("a.npz", y=np.eye(3, dtype=np.float32), ids=["p", "q", "r"])
    np.savez("b.npz", y=np.eye(3, dtype=np.float32)[[2, 0, 0]], ids=["r", "p", "q"])
    report = infopt.compare("a.npz", "b.npz")
    assert isinstance(report, Report)
    assert (report.accuracy and report.accuracy.metric, report.accuracy and report.accuracy.candidate) == (
        "agreement",
        pytest.approx(2 / 3),
    )
    assert [(change.id, change.before, change.after) for change in report.samples] == [("q", "1 (1.00)", "0 (1.00)")]
    assert (report.verdict.status, report.data.eval and report.data.eval.path) == ("unmeasured", None)
    assert cli("compare", "a.npz", "b.npz").code == 0
    assert cli("compare", "a.npz", "b.npz", "--min-speedup", "1.1").code == 3


def test_shuffled_predictions_are_matched_by_id(cli: Cli) -> None:
    order = np.random.default_rng(0).permutation(40)
    np.savez("p.npz", logits=outputs()[order], ids=order)
    assert compared(cli, "model.onnx", "p.npz")["accuracy"]["flips"] == {"gained": 0, "lost": 0}
    known = dict(np.load("eval.npz"))
    np.savez("eval.npz", **known, ids=[f"s{number}" for number in range(40)])
    cli.refuses("compare", "model.onnx", "p.npz", *DATA, says=("no prediction for 40 of 40 samples: s0",))
    np.savez("p.npz", logits=outputs()[order], ids=[f"s{number}" for number in order])
    report = compared(cli, "model.onnx", "p.npz")
    assert report["accuracy"]["candidate"] == 1.0


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"logit": np.zeros((40, 4), np.float32)}, ("no output 'logits'", "is it 'logit'? Rename")),
        ({"logits": np.zeros((39, 4), np.float32)}, ("39 rows for 40 samples",)),
        ({"logits": np.zeros((80, 4), np.float32)}, ("float32 [40, 4] in model.onnx and float32 [80, 4]",)),
        ({"logits": np.zeros((40, 5), np.float32)}, ("float32 [40, 4] in model.onnx and float32 [40, 5]",)),
        ({"logits": np.zeros((40, 4), np.int64)}, ("int64 [40, 4]", "same outputs")),
        ({"logits": np.zeros((40, 4, 1), np.float32)}, ("float32 [40, 4, 1]",)),
        ({"logits": np.full((40, 4), np.nan, np.float32)}, ("no finite number",)),
        ({"logits": np.array([{}] * 40, object)}, ("never loaded",)),
        ({"logits": np.zeros((0, 4), np.float32)}, ("no samples",)),
        ({"logits": np.zeros((40, 4), np.float32), "sha256": "0" * 64}, ("made on other inputs than eval.npz",)),
    ],
)
def test_predictions_that_do_not_fit_are_refused(cli: Cli, arrays: dict[str, Any], says: tuple[str, ...]) -> None:
    np.savez("p.npz", **arrays)
    cli.refuses("compare", "model.onnx", "p.npz", *DATA, says=says)


def test_truncated_and_pickled_predictions_are_refused(cli: Cli) -> None:
    np.savez("p.npz", logits=outputs())
    Path("p.npz").write_bytes(Path("p.npz").read_bytes()[:-30])
    cli.refuses("compare", "model.onnx", "p.npz", *DATA, says=("p.npz is damaged",))
    np.array([{}], object).dump("p.npz")
    cli.refuses("compare", "model.onnx", "p.npz", *DATA, says=("p.npz is damaged",))


def test_predictions_with_nan_never_pass(cli: Cli) -> None:
    logits = outputs()
    logits[:20] = np.nan
    np.savez("p.npz", logits=logits)
    result = cli("compare", "model.onnx", "p.npz", *DATA, "--max-drop", "10%")
    assert result.code == 3
    assert "outputs of 20 of 40 samples hold NaN or Inf" in " ".join(result.out.split())


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("model.onnx", "--eval", "eval.npz", "-o", "p.txt"), ("p.txt is not the name of an .npz file",)),
        (("model.onnx", "--eval", "nosuch.npz", "-o", "p.npz"), ("nosuch.npz does not exist",)),
        (("model.onnx", "-o", "p.npz"), ("lacks 'data'",)),
        (("model.onnx", "--eval", "eval.npz", "-o", "calib.npz"), ("calib.npz",)),
        (("model.onnx", "--eval", "eval.npz", "-o", "eval.npz", "--force"), ("eval.npz",)),
        (("eval.npz", "--eval", "eval.npz", "-o", "p.npz"), ("eval.npz is not .onnx",)),
    ],
)
def test_predict_refuses(cli: Cli, args: tuple[str, ...], says: tuple[str, ...]) -> None:
    cli.refuses("predict", *args, says=says)


def test_an_engine_that_cannot_run_here_makes_no_predictions(cli: Cli) -> None:
    target = registry.target("tensorrt-rtx")
    if target.available() or target.runnable() is None:
        pytest.skip("needs a machine that builds engines and does not run them")
    assert cli.quantize("--target", "tensorrt-rtx", "-o", "rtx").code == 0
    args = ("predict", "rtx", "--eval", "eval.npz", "-o", "p.npz")
    cli.refuses(*args, code=4, says=("rtx cannot run here", "run this on the machine that it is for"))
    assert compared(cli, "model.onnx", "rtx")["accuracy"]["where"] == "emulated"


def test_quantize_tells_of_classes_and_samples(cli: Cli) -> None:
    assert cli.quantize("-o", "out").code == 0
    report = read_report(Path("out"))
    assert sum(change.n for change in report.classes) == 40
    assert report.samples
    assert all(change.thumbnail is None for change in report.samples)
    assert "thumbnail" not in Path("out/report.md").read_text()
    assert "samples_in_report = true" not in Path("out/recipe.toml").read_text()
    assert cli.quantize("-o", "out", "--samples-in-report", "--force").code == 0
    assert all((change.thumbnail or "").startswith("data:image/") for change in read_report(Path("out")).samples)
    assert "samples_in_report = true" in Path("out/recipe.toml").read_text()
    result = cli.quantize("-o", "out", "-v", "--force")
    assert "Most changed samples" in result.out
    assert "Classes" in result.out


def test_a_tokenizer_is_checked_before_the_work(cli: Cli) -> None:
    Path("tokenizer.json").write_text("{}")
    args = ("quantize", "model.onnx", "--calib", "calib.npz", "--eval", "eval.npz", "--tokenizer", "tokenizer.json")
    cli.refuses(*args, "--samples-in-report", says=("tokenizer.json is no tokenizer",))
    cli.refuses(*args, says=("--tokenizer does nothing alone",))
    cli.refuses("compare", "model.onnx", "model.onnx", *DATA, *args[-2:], says=("--samples-in-report",))


def test_a_recipe_keeps_its_tokenizer(cli: Cli) -> None:
    Path("vocab.txt").write_text("a\nb\n")
    assert cli.quantize("-o", "out", "--samples-in-report", "--tokenizer", "vocab.txt").code == 0
    assert 'tokenizer = "../vocab.txt"' in Path("out/recipe.toml").read_text()
    assert cli("run", "out/recipe.toml", "-o", "again").code == 0


def test_a_class_that_died_is_named_in_the_default_output(cli: Cli) -> None:
    """The example with the bias of one class, of which a tenth of the pictures are, so low that it never wins."""
    proto = onnx.load(FASHION)
    gemm = next(node for node in proto.graph.node if "logits" in node.output)
    bias = next(weight for weight in proto.graph.initializer if weight.name == gemm.input[2])
    values = numpy_helper.to_array(bias).copy()
    values[3] = -100
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    Path("dead.onnx").write_bytes(proto.SerializeToString())
    data = ("--eval", pictures(300), "--preprocess", EVAL.parent / "preprocess.toml", "--no-bench")
    result = cli("compare", FASHION, "dead.onnx", *data, "--samples-in-report", "--json")
    report = json.loads(result.out)
    first = report["classes"][0]
    assert (first["label"], first["n"], first["candidate"]) == ("3", 24, 0.0)
    assert first["ci95"][1] < -0.6
    assert sum(change["n"] for change in report["classes"]) == 300
    assert len(report["samples"]) == 20
    assert all(
        change["before"].startswith("3 ") and not change["after"].startswith("3 ") for change in report["samples"]
    )
    assert all(change["id"].endswith(".png") for change in report["samples"])
    assert all(change["thumbnail"].startswith("data:image/png;base64,") for change in report["samples"])
    assert len(result.out) < 60_000
    np.savez("dead.npz", logits=np.zeros((300, 10), np.float32))
    cli.refuses("compare", FASHION, "dead.npz", *data, says=("has no ids", "0000.png"))


def test_a_died_class_is_one_line_without_details(cli: Cli) -> None:
    labels = np.load("eval.npz")["labels"]
    common = int(np.bincount(labels).argmax())
    logits = outputs()
    logits[labels == common] = np.roll(np.eye(4, dtype=np.float32)[labels[labels == common]], 1, axis=1)
    np.savez("p.npz", logits=logits)
    result = cli("compare", "model.onnx", "p.npz", *DATA)
    said = " ".join(result.out.split())
    assert f"class {common} loses most: 1.0000 -> 0.0000 of {(labels == common).sum()} samples" in said
    assert "Most changed samples" not in result.out
