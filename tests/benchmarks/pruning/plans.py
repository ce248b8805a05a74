"""What is pruned, as data."""

from __future__ import annotations

from ..variants import Options

MODELS = ("resnet20_fashion", "vit_fashion", "minilm_sentiment")
TARGETS = ("onnxruntime", "openvino")
SHARES = (0.9, 0.7, 0.5, 0.35)
HALF: Options = {"flops": 0.5}

STRUCTURED: tuple[Options, ...] = tuple({"flops": share} for share in SHARES)
SPARSE: tuple[Options, ...] = ({"kind": "2:4"}, {"kind": "unstructured", "sparsity": 0.7})
SLOWER: tuple[Options, ...] = (
    {"flops": 0.5, "steps": 3},
    {"flops": 0.7, "recover": "distill"},
    {**HALF, "recover": "distill"},
)
"""What takes longer and may be worth it."""

VARIANTS: dict[str, tuple[Options, ...]] = {
    "onnxruntime": (*STRUCTURED, *SPARSE, *SLOWER),
    "openvino": ({"flops": 0.7}, HALF),
}

RIVAL_SHARES = (0.7, 0.5)
RIVAL_RECIPES = {
    "resnet20_fashion": ("group-norm", "quick-start"),
    "vit_fashion": ("taylor", "taylor-bottleneck"),
}
"""Recipes of Torch-Pruning, by model; see ``rival/recipes.py``."""
