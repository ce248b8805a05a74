"""How long quantizing takes as a whole process and how much memory, against the peers' static quantizers."""

from __future__ import annotations

import statistics
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from benchmarks.processes import INFOPT, Cost, cost, flags

if TYPE_CHECKING:
    from benchmarks.zoo import PeerTools, ZooModel

SAMPLES = 100
ROUNDS = 3
MAX_SECONDS = 0.7
MAX_MEMORY = 0.6
STATIC = ("ort-u8s8", "nncf-ov", "nncf-onnx", "modelopt")
MODELS = pytest.mark.parametrize(
    "model", ["resnet20_fashion", "mobilenetv2_imagenet", "minilm_sentiment"], indirect=True
)
AGAINST = {"onnxruntime": ("minmax", "ort-u8s8"), "openvino": ("mean-minmax", "nncf-ov")}
"""The ranges, and the peer that takes the same ones, by target."""


def _ours(model: ZooModel, target: str, out: Path) -> list[str]:
    options: dict[str, Any] = {**model.calibration, "target": target, "ranges": AGAINST[target][0], "output": out}
    return [*INFOPT, "quantize", str(model.path), *flags(options), "--no-eval", "--samples", str(SAMPLES)]


def _medians(commands: dict[str, list[str]]) -> dict[str, Cost]:
    """Costs of commands that take turns, so that what else the machine does hits all of them."""
    seen: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            seen[name].append(cost(command, CALIB=str(SAMPLES)))
    for name, costs in seen.items():
        shown = ", ".join(f"{each.seconds:.2f} s {each.megabytes:.0f} MB" for each in costs)
        print(f"    {name:20} {shown}")
    return {
        name: Cost(*(statistics.median(c) for c in zip(*map(astuple, costs), strict=True)))
        for name, costs in seen.items()
    }


@pytest.mark.slow
@MODELS
@pytest.mark.parametrize("target", AGAINST)
def test_quantizing_takes_less_time_than_the_peer(
    model: ZooModel, peers: PeerTools, target: str, tmp_path: Path
) -> None:
    ranges, peer = AGAINST[target]
    print(f"\n{model.name}, {SAMPLES} samples, whole process, {ranges} for {target}")
    theirs = peers.command(peer, model, tmp_path / ("peer.xml" if peer == "nncf-ov" else "peer.onnx"))
    assert theirs is not None
    cost = _medians({"infopt": _ours(model, target, tmp_path / "out"), peer: theirs})
    ratio = cost["infopt"].seconds / cost[peer].seconds
    print(f"    median ratio of time {ratio:.2f} (bar {MAX_SECONDS})")
    assert ratio <= MAX_SECONDS


@pytest.mark.slow
@MODELS
def test_quantizing_takes_less_memory_than_the_leanest_peer(model: ZooModel, peers: PeerTools, tmp_path: Path) -> None:
    outs = {peer: tmp_path / f"{peer}.{'xml' if peer == 'nncf-ov' else 'onnx'}" for peer in STATIC}
    theirs = {peer: command for peer, out in outs.items() if (command := peers.command(peer, model, out))}
    ours = {target: _ours(model, target, tmp_path / target) for target in AGAINST}
    print(f"\n{model.name}, {SAMPLES} samples, peak memory of the whole process")
    cost = _medians({f"infopt {target}": command for target, command in ours.items()} | theirs)
    leanest = min(theirs, key=lambda peer: cost[peer].megabytes)
    ratios = {target: cost[f"infopt {target}"].megabytes / cost[leanest].megabytes for target in ours}
    for target, ratio in ratios.items():
        print(f"    {target}: {ratio:.2f} of the memory of {leanest} (bar {MAX_MEMORY})")
    assert max(ratios.values()) <= MAX_MEMORY
