"""The models that the benchmarks measure on, and the other tools of the field on the same models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODELS = (
    "resnet20_fashion",
    "letter_mlp",
    "vit_fashion",
    "ppocr_det",
    "mobilenetv2_imagenet",
    "minilm_sentiment",
    "silero_vad",
)
SAMPLES = 100
"""Calibration samples of every tool, so that they are compared on the same work."""

DISTINCT = {"mobilenetv2_imagenet": 174}
"""Distinct samples of data that hold some of them several times and have no groups that say so: here 20 photos, each as
it is and mirrored, and 154 stamps, each on three backgrounds."""

PEERS = ("ort-default", "ort-u8s8", "ort-dynamic", "nncf-onnx", "nncf-ov", "modelopt")


@dataclass(frozen=True)
class ZooModel:
    """One folder of the zoo: a model, its data and its metric.

    Attributes:
        folder: Holds ``model.onnx``, ``calib`` and ``eval`` (``.npz`` files or folders of pictures), ``score.py`` and
            ``meta.json``.
        scratch: Where the preprocessing of pictures is written down as infopt reads it.
    """

    folder: Path
    scratch: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def path(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def inputs(self) -> dict[str, Any]:
        """How samples become feeds, as options of ``infopt.quantize``."""
        meta = json.loads((self.folder / "meta.json").read_text())
        axes = meta["batch_axes"]
        named = isinstance(axes, dict)
        given = tuple(f"{name}={'none' if axis is None else axis}" for name, axis in axes.items()) if named else ()
        options: dict[str, Any] = {"batch_axis": given} if given else {}
        if "preprocess" in meta:
            options["preprocess"] = str(self._preprocess(meta["preprocess"]))
        return options

    @property
    def calibration(self) -> dict[str, Any]:
        """Options of ``infopt.quantize`` that bring the calibration samples."""
        return {"calib": str(self._data("calib")), **self.inputs}

    @property
    def options(self) -> dict[str, Any]:
        """Options of ``infopt.quantize`` that bring all samples and the metric."""
        return {**self.calibration, "eval": str(self._data("eval")), "metric": f"{self.folder / 'score.py'}:score"}

    def _data(self, which: str) -> Path:
        packed = self.folder / f"{which}.npz"
        return packed if packed.exists() else self.folder / which

    def _preprocess(self, wanted: dict[str, Any]) -> Path:
        keys = {key: wanted[key] for key in ("color", "mean", "std", "layout")}
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        path = self.scratch / f"{self.name}.toml"
        path.write_text("\n".join([*lines, f"scale = {float(Fraction(wanted['scale']))!r}", ""]))
        return path


@dataclass(frozen=True)
class PeerTools:
    """The other tools, each in its own interpreter.

    Attributes:
        script: ``make.py`` of the peers' scripts: PEER ZOO_FOLDER OUT.
        python: Interpreter of most of them.
        modelopt: Interpreter of ModelOpt, if there is one.
        kept: Folder of what they made, by model.
    """

    script: Path
    python: str
    modelopt: str | None
    kept: Path

    def command(self, peer: str, model: ZooModel, out: Path) -> list[str] | None:
        """The command that quantizes a model with a peer; ``None`` when the peer is not there."""
        python = self.modelopt if peer == "modelopt" else self.python
        return [python, str(self.script), peer, str(model.folder), str(out)] if python else None

    def artifact(self, peer: str, model: ZooModel) -> Path | str:
        """What a peer makes of a model, made once; or the reason why there is nothing."""
        folder = self.kept / model.name
        path, refusal = folder / f"{peer}{'.xml' if peer == 'nncf-ov' else '.onnx'}", folder / f"{peer}.failed"
        if path.exists():
            return path
        if refusal.exists():
            return refusal.read_text()
        folder.mkdir(parents=True, exist_ok=True)
        # Made elsewhere and moved, so that a run that is interrupted leaves nothing half.
        with tempfile.TemporaryDirectory(dir=folder) as work:
            command = self.command(peer, model, Path(work) / path.name)
            if command is None:
                return "INFOPT_MODELOPT_PYTHON is not set"
            environment = os.environ | {"CALIB": str(SAMPLES)}
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                refusal.write_text((done.stderr.strip().splitlines() or ["it crashed"])[-1])
                return refusal.read_text()
            for file in sorted(Path(work).glob(f"{peer}.*"), key=lambda file: file.name == path.name):
                shutil.move(file, folder)
        return path
