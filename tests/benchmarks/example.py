"""The embedded example as a folder of the zoo, for tests that have no zoo."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from .zoo import ROOT, ZooModel

SCORE = """
def per_sample(outputs, labels):
    return (outputs[0].argmax(1) == labels.reshape(len(labels), -1)[:, 0]).astype(float)


def score(outputs, labels):
    return float(per_sample(outputs, labels).mean())
"""


def embedded(scratch: Path, calibration: int = 20, evaluation: int = 40) -> ZooModel:
    """The example with few pictures.

    Args:
        scratch: Where the folder is made.
        calibration: Pictures without labels.
        evaluation: Pictures with labels.
    """
    folder = scratch / "fashion"
    for name, count in (("calib", calibration), ("eval", evaluation)):
        (folder / name).mkdir(parents=True)
        source = ROOT / "calibration_data" / "fashion" / name
        pictures = sorted(source.glob("*.png"))[:count]
        for picture in pictures:
            (folder / name / picture.name).symlink_to(picture)
        if name == "eval":
            kept = {picture.name for picture in pictures} | {"file"}
            with (source / "labels.csv").open() as old, (folder / name / "labels.csv").open("w") as new:
                csv.writer(new).writerows(row for row in csv.reader(old) if row[0] in kept)
    (folder / "model.onnx").symlink_to(ROOT / "examples" / "fashion" / "fashion.onnx")
    (folder / "score.py").write_text(SCORE)
    preprocess = {"color": "L", "scale": "1/255", "mean": [0.286], "std": [0.353], "layout": "NCHW"}
    (folder / "meta.json").write_text(json.dumps({"batch_axes": "all 0", "preprocess": preprocess}))
    return ZooModel(folder, scratch)
