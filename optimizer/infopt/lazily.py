"""Puts off the import of what a library imports for rare cases.

onnx_ir imports sympy, half a second and 30 MB, to compute with symbolic dimensions such as ``2*N + 1``; few graphs have
any. onnxscript imports the reference implementation of every operator to fold constants. The standard library's lazy
loader makes such an import happen on the first use instead, if there is one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

RARE = {
    "sympy": "onnx_ir._core",
    "onnx_ir._symbolic_shapes": "onnx_ir._core",
    "onnx.reference.ops": "onnxscript.optimizer._constant_folding",
}
"""Module to put off, and the module whose own import it must not delay."""


class RareModules:
    """A finder of modules that are loaded on first use, when the module that wants them is just being imported."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a rare module, its loader put off; ``None`` for every other module."""
        importer = sys.modules.get(RARE.get(name, ""))
        if importer is None or not getattr(importer.__spec__, "_initializing", False):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def put_off_rare_modules() -> None:
    """Install the finder, once."""
    if RareModules not in sys.meta_path:
        sys.meta_path.insert(0, RareModules)
