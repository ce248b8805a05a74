"""What ``check`` says of what NNCF and ModelOpt really emit, and what its lossless repairs gain on ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import infopt

MODELS = ("resnet20_fashion", "letter_mlp")
PEERS = {"nncf-onnx": "nncf", "modelopt": "modelopt.onnx.quantization"}
SAMPLES = "20"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("peer", PEERS)
def test_what_a_peer_emits(model: str, peer: str, zoo: Path, peers: Path, peer_python: str, tmp_path: Path) -> None:
    known = subprocess.run([peer_python, "-c", f"import {PEERS[peer]}"], capture_output=True, check=False)
    if known.returncode:
        pytest.skip(f"{peer_python} has no {PEERS[peer]}")
    out = tmp_path / "peer.onnx"
    command = [peer_python, str(peers / "make.py"), peer, str(zoo / model), str(out)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"CALIB": SAMPLES})
    report = infopt.check(out)
    print(f"\n{peer} {model}: {report.count('error')} errors, {report.count('warning')} warnings")
    for state in report.targets:
        rules = sorted(
            {each.rule for each in report.findings if state.name in each.targets and each.severity != "note"}
        )
        print(f"  {state.name}: {state.state}, {state.integer} of {state.total} in integers; {', '.join(rules)}")
    states = {state.name: state for state in report.targets}
    for state in states.values():
        said = [each for each in report.findings if state.name in each.targets and each.severity == "error"]
        assert state.state != "refused" or said, f"{state.name} refuses it and no finding says so"
    fixed = infopt.check(out, target="onnxruntime", fix=True, output=tmp_path / "fixed.onnx")
    assert fixed.fixed is not None
    before, after = states["onnxruntime"], fixed.targets[0]
    places, moved = len(fixed.fixed.repairs), fixed.fixed.difference
    print(f"  repaired for onnxruntime: {places} places, outputs differ by {moved}; integers: "
          f"{before.integer} -> {after.integer} of {after.total}")  # fmt: skip
    assert fixed.fixed.difference == 0
    assert (after.integer or 0) >= (before.integer or 0)
