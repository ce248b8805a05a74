"""The torch module behind a model of the zoo, with the weights of its ONNX file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper


def restored(folder: Path) -> torch.nn.Module:
    """The module that ``model.py`` defines, with the weights of ``model.pt`` or else those of ``model.onnx``."""
    net: torch.nn.Module = _module(folder / "model.py").Net()
    kept = folder / "model.pt"
    if kept.exists():
        saved = torch.load(kept, map_location="cpu", weights_only=True)
        net.load_state_dict(saved.get("state_dict", saved))
    else:
        found = _weights(folder / "model.onnx")
        state = {name: torch.from_numpy(found[name].copy()) for name in net.state_dict()}
        net.load_state_dict(state)
    return net.eval()


def difference(net: torch.nn.Module, model: Path, feed: dict[str, torch.Tensor]) -> float:
    """Largest difference of the outputs from those of the ONNX file, as a part of their root mean square."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    wanted = session.run(None, {name: each.numpy() for name, each in feed.items()})[0]
    with torch.no_grad():
        got = net(*feed.values()).numpy()
    return float(np.abs(got - wanted).max() / np.sqrt(np.mean(wanted**2)))


def _weights(model: Path) -> dict[str, np.ndarray]:
    """Weights by the module's names; an exporter turns that of a linear layer and leaves its name to the bias."""
    graph = onnx.load(model).graph
    found = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    products = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        names = [name for name in node.input if name.endswith(".bias")]
        made = [products[name] for name in node.input if name in products]
        if node.op_type == "Add" and names and made:
            found[names[0].removesuffix("bias") + "weight"] = found[made[0].input[1]].T
    return found


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("zoo_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
