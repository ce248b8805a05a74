"""infopt: from a trained model to the fastest artifact that still meets the accuracy budget, with the evidence.

The verbs of the command line are functions here; they are imported on first use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from infopt.lazily import put_off_rare_modules

# ONNX Runtime 1.29 and later report on models and the machine to its maker, from a thread that runs beside
# measurements. It looks at this once, when it is loaded; whoever wants the reports sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
put_off_rare_modules()

__all__ = [
    "blame",
    "check",
    "compare",
    "compile",
    "diff",
    "drift",
    "gate",
    "predict",
    "prune",
    "quantize",
    "render",
    "run",
    "simplify",
]

if TYPE_CHECKING:
    __version__: str
    from infopt.verbs import (
        blame,
        check,
        compare,
        compile,
        diff,
        drift,
        gate,
        predict,
        prune,
        quantize,
        render,
        run,
        simplify,
    )


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("infopt")
    if name in __all__:
        from infopt import verbs

        return getattr(verbs, name)
    raise AttributeError(f"module 'infopt' has no attribute {name!r}")
