"""What is measured on: a folder of the zoo, in the form that a target reads."""

from __future__ import annotations

from pathlib import Path

from infopt.model import load

from .judging import evaluation_samples
from .zoo import DISTINCT, ZooModel

TARGETS = ("onnxruntime", "openvino", "tensorrt-rtx")

OTHER_FORM = "model_op18.onnx"
"""The same model in operators that more runtimes read, where a folder has it."""


def for_target(model: ZooModel, target: str) -> ZooModel:
    """The folder itself; where ONNX Runtime alone reads its model, one beside it with the other form and the same data.

    Its name differs, so the peers' artifacts of the two forms are kept apart.
    """
    other = model.folder / OTHER_FORM
    if target == "onnxruntime" or not other.exists():
        return model
    folder = model.scratch / f"{model.name}_op18"
    folder.mkdir(exist_ok=True)
    for file in model.folder.iterdir():
        name = "model.onnx" if file == other else file.name
        if file.name != "model.onnx" and not (folder / name).exists():
            (folder / name).symlink_to(file)
    return ZooModel(folder, model.scratch)


def unit(model: ZooModel) -> float:
    """One over the distinct samples, or groups of samples, of the evaluation data."""
    samples = evaluation_samples(model)
    if model.name in DISTINCT:
        return 1 / DISTINCT[model.name]
    return 1 / len(set(samples.digests() if samples.groups is None else samples.groups.tolist()))


def model_sha256(model: ZooModel) -> str:
    """A hash of the model's files."""
    from infopt.manifest import sha256_files

    return sha256_files(load(model.path).files)


def found(zoo: Path, names: list[str], scratch: Path) -> list[ZooModel]:
    """The folders of the zoo with these names."""
    return [ZooModel(zoo / name, scratch) for name in names if (zoo / name).is_dir()]
