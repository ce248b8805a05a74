"""Distillation of a pruned model from the float model, end to end, through a graph that torch differentiates.

Everything here but this module imports torch, which is an extra; this one says what is missing before any work.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

from infopt.errors import OptionError

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx_ir as ir

    from infopt.model import Model, Note
    from infopt.passes import Context
    from infopt_passes.prune import Prune
    from infopt_passes.prune.cutting.work import Work

REMEDY = "pip install 'infopt[torch]', or --recover lsq, which needs no more than is there"


def check_torch() -> None:
    """Stop where torch is not installed; it is not imported yet.

    Raises:
        OptionError: It is not.
    """
    try:
        found = importlib.util.find_spec("torch")
    except (ImportError, ValueError):  # a finder of the environment, or a half-removed package
        found = None
    if found is None:
        raise OptionError("--recover distill needs torch, which is not installed", REMEDY)


def check_model(graph: ir.Model, options: Prune, context: Context) -> None:
    """Stop before any work where a model cannot be distilled, or there are no labels that were asked for.

    Raises:
        OptionError: torch does not import, an operator is not known, or the calibration samples have no labels.
    """
    if options.recover != "distill":
        return
    _load_torch()
    from infopt_passes.prune.distill.check import check_labels, check_operators

    check_operators(graph)
    if options.fine_tune:
        check_labels(graph, context.need_calibration("prune"))


def cut(work: Work, options: Prune, context: Context) -> tuple[ir.Model, list[Note]]:
    """The model without the units that are gone, distilled where that is asked for.

    Args:
        work: The model under way; it must not be used any more.
        options: Whether, and how.
        context: Brings samples and seed.

    Returns:
        The graph, and what is told of it.
    """
    if options.recover != "distill":
        return work.cut(), []
    from infopt_passes.prune.distill.run import distilled

    kept: dict[str, dict[int, npt.NDArray[Any]]] = {}
    for (value, axis), mask in work.removed().items():
        kept.setdefault(value.name or "", {})[axis] = mask
    exact, graph = work.exact, work.cut()
    return graph, distilled(exact, graph, kept, options, context)


def sparse(exact: Model, model: Model, options: Prune, context: Context) -> Model:
    """A sparse model distilled, where that is asked for: what is zero stays zero.

    Args:
        exact: The float model.
        model: The sparse model.
        options: Whether, and how.
        context: Brings samples and seed.
    """
    if options.recover != "distill":
        return model
    from infopt_passes.prune.cutting.prepare import prepared
    from infopt_passes.prune.distill.run import distilled

    graph = model.graph.clone()
    return model.edited(graph, *distilled(prepared(exact.graph), graph, {}, options, context))


def _load_torch() -> None:
    """Import torch with threads that sleep while they wait.

    Its OpenMP would let them spin, which makes training on a machine that has other work to do ten times slower.
    """
    before = os.environ.get("OMP_WAIT_POLICY")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise OptionError(f"--recover distill needs torch, which cannot be imported ({error})", REMEDY) from error
    finally:
        if before is None:
            os.environ.pop("OMP_WAIT_POLICY", None)
