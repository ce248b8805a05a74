"""How long quantizing takes as a whole process, against NNCF on the same samples in the same run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

INFOPT = [sys.executable, "-c", "from infopt.cli import main; main()"]
ROUNDS = 5


def _seconds(command: list[str], **environment: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | environment)
    return time.perf_counter() - start


def test_resnet20_takes_no_longer_than_nncf(zoo: Path, peers: Path, peer_python: str, tmp_path: Path) -> None:
    folder = zoo / "resnet20_fashion"
    ours = [
        *INFOPT,
        "quantize",
        str(folder / "model.onnx"),
        "--calib",
        str(folder / "calib.npz"),
        "--target",
        "openvino",
    ]
    ours += ["--no-eval", "--samples", "100", "-o", str(tmp_path / "out")]
    theirs = [peer_python, str(peers / "make.py"), "nncf-ov", str(folder), str(tmp_path / "nncf.xml")]
    pairs = [(_seconds(ours), _seconds(theirs, CALIB="100")) for _ in range(ROUNDS)]
    ratio = sorted(a / b for a, b in pairs)[ROUNDS // 2]
    print(f"\nresnet20_fashion, 100 samples, whole process: infopt {[round(a, 2) for a, _ in pairs]} s, ", end="")
    print(f"nncf-ov {[round(b, 2) for _, b in pairs]} s; median ratio {ratio:.2f} (bar 1.0)")
    assert ratio <= 1.0
