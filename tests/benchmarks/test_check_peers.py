"""What ``check`` says of what NNCF and ModelOpt really emit, and what its lossless repairs gain on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import infopt

if TYPE_CHECKING:
    from benchmarks.zoo import PeerTools, ZooModel


@pytest.mark.parametrize("model", ["resnet20_fashion", "letter_mlp"], indirect=True)
@pytest.mark.parametrize("peer", ["nncf-onnx", "modelopt"])
def test_what_a_peer_emits(model: ZooModel, peers: PeerTools, peer: str, tmp_path: Path) -> None:
    out = peers.artifact(peer, model)
    if isinstance(out, str):
        pytest.skip(f"{peer} made nothing: {out}")
    report = infopt.check(out)
    print(f"\n{peer} {model.name}: {report.count('error')} errors, {report.count('warning')} warnings")
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
