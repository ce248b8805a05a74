"""What can be pruned of each network, from its wiring.

A stage of residual blocks is one group, and so is each layer inside of a block; what is concatenated is a group for
each part. Widths that a LayerNorm or a GroupNorm of one group reads stay, because its mean is over them.
"""

from __future__ import annotations

from dataclasses import dataclass

OUTPUT = ("output of the model",)
NORM = (*OUTPUT, "computes its mean")
BOXES = (*OUTPUT, "Reshape", "'/expected/Conv' needs", "'node_Conv_455' needs")
"""What heads make is taken apart into boxes and classes, and is in the output."""


@dataclass(frozen=True)
class Expected:
    """What is to be found in a network.

    Attributes:
        groups: Sets of units that come and go on their own.
        share: Per cent of the outputs of all layers with weights that may go.
        stays: Words of the reasons why the other layers keep theirs.
    """

    groups: int
    share: int
    stays: tuple[str, ...] = OUTPUT


EXPECTED: dict[str, Expected] = {
    "resnet18": Expected(9, 98),
    "resnet50": Expected(11, 99),
    "resnext": Expected(4, 96),
    "se_resnet": Expected(8, 98),
    "preact_resnet": Expected(3, 89),
    "groupnorm_resnet": Expected(3, 92),
    "regnet": Expected(8, 97),
    "vgg": Expected(5, 97),
    "squeezenet": Expected(7, 93),
    "googlenet": Expected(15, 97),
    "densenet": Expected(12, 98),
    "res2net": Expected(11, 95),
    "repvgg": Expected(2, 94),
    "resnet3d": Expected(5, 91),
    "mobilenet_v1": Expected(4, 96),
    "mobilenet_v2": Expected(6, 99),
    "mobilenet_v3": Expected(10, 99),
    "efficientnet": Expected(9, 99),
    "efficientnet_v2": Expected(5, 97),
    "shufflenet_v1": Expected(3, 97),
    "shufflenet_v2": Expected(8, 98),
    "ghostnet": Expected(3, 95),
    "convnext": Expected(2, 55, (*NORM, "reduces over")),
    "unet": Expected(9, 98),
    "deeplab": Expected(9, 98),
    "hrnet": Expected(6, 97),
    "retinanet": Expected(8, 90, BOXES),
    "yolo_csp": Expected(23, 91),
    "yolo_chunks": Expected(22, 89, BOXES),
    "ssd": Expected(5, 50, BOXES),
    "super_resolution": Expected(3, 95),
    "style_transfer": Expected(5, 97),
    "autoencoder": Expected(5, 100),
    "siamese": Expected(2, 98),
    "vit": Expected(4, 71, NORM),
    "swin": Expected(6, 71, NORM),
    "bert": Expected(5, 77, NORM),
    "gpt": Expected(4, 58, NORM),
    "detr": Expected(7, 71, NORM),
    "mlp_mixer": Expected(4, 68, (*NORM, "reduces over")),
    "mobilevit": Expected(8, 79, NORM + BOXES),
    "poolformer": Expected(2, 69, NORM),
    "lstm": Expected(4, 92),
    "gru": Expected(4, 92),
    "crnn": Expected(4, 84, (*OUTPUT, "goes over")),
    "wavenet": Expected(6, 97),
    "conformer": Expected(5, 71, NORM),
    "speech": Expected(3, 77, NORM),
    "dlrm": Expected(3, 99),
    "pointnet": Expected(3, 93),
    "tabular": Expected(4, 93),
    "nerf": Expected(4, 97),
}
