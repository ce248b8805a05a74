"""A ResNet-20 for 28x28 grey pictures: the network, its training, its export to ONNX."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import onnx_ir
import torch
from dataset import CLASSES, MEAN, SCALE, STD, Split
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path

WIDTHS = (16, 32, 64)
BLOCKS_PER_STAGE = 3
OPSET = 18

BATCH = 128
PEAK_RATE = 0.2
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
LABEL_SMOOTHING = 0.05
SHIFT = 2


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Build a convolution followed by BatchNormalization, which takes the place of the bias."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the first one may halve the resolution.

    Where the shape changes, the shortcut is a 1x1 projection (equation 2 of the paper). The paper's CIFAR
    networks pad with zero channels there instead; the projection is the form that one meets in practice.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride)
        self.second = convolution(outputs, outputs, 3)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        inner = functional.relu(self.first(features))
        return functional.relu(self.second(inner) + self.shortcut(features))


class ResNet20(nn.Module):
    """20 weighted layers: one convolution, three stages of three residual blocks, one linear layer.

    After He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (2015), section 4.2, with n = 3,
    one input channel instead of three, and projections as shortcuts between the stages.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        inputs = WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            for position in range(BLOCKS_PER_STAGE):
                stride = 2 if stage > 0 and position == 0 else 1
                blocks.append(ResidualBlock(inputs, width, stride))
                inputs = width
        self.stem = convolution(1, WIDTHS[0], 3)
        self.stages = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised pictures, float32 (N, 1, 28, 28), to logits, float32 (N, 10)."""
        features = self.stages(functional.relu(self.stem(image)))
        return self.classifier(self.pool(features).flatten(1))


def augment(images: Tensor) -> Tensor:
    """Flip every second picture left to right and shift each by up to two pixels, at random.

    Both are one gather: a row and a column index per picture into a frame that is padded with background.

    Args:
        images: uint8, shape (N, 28, 28).

    Returns:
        uint8 of the same shape.
    """
    count, height, width = images.shape
    frame = functional.pad(images, (SHIFT,) * 4)
    down, right = torch.randint(2 * SHIFT + 1, (2, count, 1))
    rows = torch.arange(height) + down
    columns = torch.arange(width) + right
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    return frame[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def normalise(images: Tensor) -> Tensor:
    """Do what `preprocess.toml` says: uint8 (N, 28, 28) to float32 (N, 1, 28, 28)."""
    return (images.unsqueeze(1).float() * SCALE - MEAN) / STD


def train(split: Split, epochs: int, seed: int) -> ResNet20:
    """Train with SGD under a one-cycle learning rate.

    Args:
        split: the pictures to learn from.
        epochs: passes over them.
        seed: of weights, order and augmentation; with the same number of threads on the same machine the
            result is the same.

    Returns:
        The network, ready for inference.
    """
    torch.manual_seed(seed)
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels).long()
    network = ResNet20().to(memory_format=torch.channels_last)
    steps = len(split) // BATCH
    optimizer = torch.optim.SGD(
        network.parameters(), lr=PEAK_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=epochs * steps)
    for epoch in range(epochs):
        started, total = time.monotonic(), 0.0
        # A last batch that is short would upset the running statistics of BatchNormalization: leave it out.
        for rows in torch.randperm(len(split)).split(BATCH)[:steps]:
            logits = network(normalise(augment(images[rows])))
            loss = functional.cross_entropy(logits, labels[rows], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.monotonic() - started
        print(f"epoch {epoch + 1} of {epochs}: loss {total / steps:.4f}, {seconds:.0f} s", flush=True)
    return network.eval()


def export(network: ResNet20, path: Path) -> None:
    """Write the network as one ONNX file: `image` (batch, 1, 28, 28) in, `logits` (batch, 10) out.

    Args:
        network: in inference mode.
        path: the `.onnx` file; weights are stored inside it.
    """
    # The example batch is 2: the exporter would take a batch of 1 for a constant.
    program = torch.onnx.export(
        network.to(memory_format=torch.contiguous_format),
        (torch.zeros(2, 1, 28, 28),),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        dynamo=True,
    )
    # The exporter notes Python stack traces in every node: most of the text, and paths of this machine.
    model = ClearMetadataAndDocStringPass()(program.model).model
    onnx_ir.save(model, path)
