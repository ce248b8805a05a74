"""Networks of many families as the exporters of PyTorch write them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir
import torch
from architectures.nets import attention, classifiers, maps, mobile, sequences
from architectures.nets.blocks import shaken
from torch import Tensor, nn

from infopt.model import Model

WIDTH = 8
"""Width of the networks in tests."""

Exporter = Literal["dynamo", "script"]
Inputs = Callable[[int], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Architecture:
    """A network in two sizes.

    Attributes:
        net: Makes it for a width.
        inputs: Makes its inputs for a size.
        size: Size of the inputs in tests.
        large: Width and size at which float32 takes some milliseconds.
    """

    net: Callable[[int], nn.Module]
    inputs: Inputs
    size: int
    large: tuple[int, int]


def image(size: int) -> tuple[Tensor, ...]:
    return (torch.randn(2, 3, size, size),)


def line(size: int) -> tuple[Tensor, ...]:
    return (torch.randn(2, 3, 32, size),)


def pair(size: int) -> tuple[Tensor, ...]:
    return torch.randn(2, 3, size, size), torch.randn(2, 3, size, size)


def video(size: int) -> tuple[Tensor, ...]:
    return (torch.randn(2, 3, 8, size, size),)


def words(size: int) -> tuple[Tensor, ...]:
    return (torch.randint(0, 50, (2, size)),)


def steps(size: int) -> tuple[Tensor, ...]:
    return (torch.randn(2, size, 6),)


def spectrum(size: int) -> tuple[Tensor, ...]:
    return (torch.randn(2, size, 16),)


def signal(size: int) -> tuple[Tensor, ...]:
    return (torch.randn(2, 4, size),)


def samples(size: int) -> tuple[Tensor, ...]:
    return (torch.randn(2, size),)


def table(size: int) -> tuple[Tensor, ...]:
    return (torch.randn(size, 10),)


def rows(size: int) -> tuple[Tensor, ...]:
    return torch.randn(size, 5), torch.randint(0, 30, (size, 3))


def points(size: int) -> tuple[Tensor, ...]:
    return (torch.randn(2, 3, size),)


def rays(size: int) -> tuple[Tensor, ...]:
    return (torch.randn(size, 3),)


C, M, D, A, S = classifiers, mobile, maps, attention, sequences

ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": Architecture(C.resnet18, image, 32, (64, 128)),
    "resnet50": Architecture(C.resnet50, image, 32, (32, 160)),
    "resnext": Architecture(C.resnext, image, 16, (64, 64)),
    "se_resnet": Architecture(C.se_resnet, image, 16, (48, 64)),
    "preact_resnet": Architecture(C.preact_resnet, image, 16, (64, 96)),
    "groupnorm_resnet": Architecture(C.groupnorm_resnet, image, 16, (64, 64)),
    "regnet": Architecture(C.regnet, image, 16, (64, 96)),
    "vgg": Architecture(C.vgg, image, 32, (48, 96)),
    "squeezenet": Architecture(C.squeezenet, image, 32, (64, 160)),
    "googlenet": Architecture(C.googlenet, image, 16, (48, 96)),
    "densenet": Architecture(C.densenet, image, 16, (32, 96)),
    "res2net": Architecture(C.res2net, image, 16, (64, 96)),
    "repvgg": Architecture(C.repvgg, image, 16, (64, 96)),
    "resnet3d": Architecture(C.resnet3d, video, 8, (32, 32)),
    "mobilenet_v1": Architecture(M.mobilenet_v1, image, 16, (64, 128)),
    "mobilenet_v2": Architecture(M.mobilenet_v2, image, 16, (48, 128)),
    "mobilenet_v3": Architecture(M.mobilenet_v3, image, 16, (48, 128)),
    "efficientnet": Architecture(M.efficientnet, image, 16, (48, 96)),
    "efficientnet_v2": Architecture(M.efficientnet_v2, image, 16, (32, 96)),
    "shufflenet_v1": Architecture(M.shufflenet_v1, image, 16, (64, 96)),
    "shufflenet_v2": Architecture(M.shufflenet_v2, image, 16, (64, 160)),
    "ghostnet": Architecture(M.ghostnet, image, 16, (96, 128)),
    "convnext": Architecture(M.convnext, image, 32, (96, 128)),
    "unet": Architecture(D.UNet, image, 16, (32, 64)),
    "deeplab": Architecture(D.DeepLab, image, 16, (48, 128)),
    "hrnet": Architecture(D.HRNet, image, 16, (48, 96)),
    "retinanet": Architecture(D.RetinaNet, image, 32, (48, 128)),
    "yolo_csp": Architecture(D.YoloCsp, image, 32, (32, 160)),
    "yolo_chunks": Architecture(D.YoloChunks, image, 32, (32, 128)),
    "ssd": Architecture(D.SSD, image, 32, (32, 128)),
    "super_resolution": Architecture(D.super_resolution, image, 8, (48, 48)),
    "style_transfer": Architecture(D.style_transfer, image, 16, (32, 64)),
    "autoencoder": Architecture(D.autoencoder, image, 32, (128, 32)),
    "siamese": Architecture(D.Siamese, pair, 16, (64, 96)),
    "vit": Architecture(A.ViT, image, 32, (384, 32)),
    "swin": Architecture(A.Swin, image, 32, (96, 64)),
    "bert": Architecture(A.Bert, words, 12, (384, 32)),
    "gpt": Architecture(A.Gpt, words, 12, (384, 32)),
    "detr": Architecture(A.Detr, image, 16, (128, 64)),
    "mlp_mixer": Architecture(A.mlp_mixer, image, 32, (512, 32)),
    "mobilevit": Architecture(A.mobilevit, image, 16, (96, 64)),
    "poolformer": Architecture(A.poolformer, image, 16, (96, 96)),
    "lstm": Architecture(S.lstm, steps, 6, (384, 48)),
    "gru": Architecture(S.gru, steps, 6, (256, 32)),
    "crnn": Architecture(S.Crnn, line, 16, (64, 128)),
    "wavenet": Architecture(S.WaveNet, signal, 24, (96, 1024)),
    "conformer": Architecture(S.Conformer, spectrum, 16, (192, 256)),
    "speech": Architecture(S.Speech, samples, 128, (128, 4000)),
    "dlrm": Architecture(S.Dlrm, rows, 2, (256, 256)),
    "pointnet": Architecture(S.PointNet, points, 20, (64, 1024)),
    "tabular": Architecture(S.tabular, table, 2, (1024, 64)),
    "nerf": Architecture(S.Nerf, rays, 4, (64, 1024)),
}

FOLLOWED = "resnet18 groupnorm_resnet shufflenet_v2 deeplab pointnet vit gru".split()
"""Families whose wiring the exporters write in different ways (the new exporter takes more than a second for each)."""


@cache
def exported(name: str, exporter: Exporter = "dynamo", large: bool = False) -> Model:
    """A network with weights from a fixed seed; the first axis of its inputs and outputs is free."""
    made = ARCHITECTURES[name]
    width, size = made.large if large else (WIDTH, made.size)
    torch.manual_seed(0)
    net, inputs = shaken(made.net(width)), made.inputs(size)
    with warnings.catch_warnings(), torch.no_grad():
        # Both exporters warn of themselves: the old one that it is old and that sizes become numbers, the new one of
        # what it imports. Nothing of it is about the network.
        for kind in (DeprecationWarning, FutureWarning, UserWarning, torch.jit.TracerWarning):
            warnings.filterwarnings("ignore", category=kind)
        proto = _traced(net, inputs) if exporter == "script" else _followed(net, inputs)
    return Model(ir.from_proto(proto), Path(f"{name}.onnx"))


def feed(name: str, large: bool = False) -> dict[str, np.ndarray]:
    """Inputs of the size that a network was exported with, by name."""
    made = ARCHITECTURES[name]
    torch.manual_seed(1)
    inputs = made.inputs(made.large[1] if large else made.size)
    return {key: value.numpy() for key, value in zip(_names(inputs), inputs, strict=True)}


def _names(inputs: tuple[Tensor, ...]) -> list[str]:
    return [f"input_{number}" for number in range(len(inputs))]


def _followed(net: nn.Module, inputs: tuple[Tensor, ...]) -> onnx.ModelProto:
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in inputs)
    made = torch.onnx.export(
        net, inputs, dynamo=True, dynamic_shapes=shapes, input_names=_names(inputs), verbose=False, external_data=False
    )
    assert made is not None
    return made.model_proto


def _traced(net: nn.Module, inputs: tuple[Tensor, ...]) -> onnx.ModelProto:
    file = io.BytesIO()
    names = _names(inputs)
    axes = {name: {0: "batch"} for name in names}
    torch.onnx.export(net, inputs, file, dynamo=False, input_names=names, dynamic_axes=axes, opset_version=17)
    return onnx.load_from_string(file.getvalue())
