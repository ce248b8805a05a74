"""Quantize the fashion example from Python and hold it against a budget.

    python examples/python_api.py [TARGET] [OUTPUT]

Ends with exit code 3 when the budget is missed, as the command line does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import infopt
from infopt.errors import InfoptError

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "calibration_data" / "fashion"


def main(target: str = "onnxruntime", output: str = "out/python-api") -> int:
    """Optimize, print what was measured, and decide."""
    try:
        report = infopt.quantize(
            HERE / "fashion" / "fashion.onnx",
            target=target,
            calib=DATA / "calib",
            eval=DATA / "eval",
            preprocess=str(DATA / "preprocess.toml"),
            output=output,
            bench_seconds=2.0,
        )
    except InfoptError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code

    if (accuracy := report.accuracy) is not None:
        print(f"{accuracy.metric}: {accuracy.baseline:.4f} -> {accuracy.candidate:.4f}, 95 % {accuracy.ci95}")
    if (speedup := report.latency.speedup) is not None:
        print(f"{speedup:.2f}x as fast as the best float setting")
    else:
        print(f"speed was not measured: {report.latency.reason}")

    judged = infopt.gate(output, HERE / "ci" / "budget.toml")
    print(judged.verdict.status, *judged.verdict.reasons, sep="\n  ")
    return 3 if judged.verdict.status in ("fail", "unmeasured") else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
