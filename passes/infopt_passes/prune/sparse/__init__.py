"""Sparse weights: N:M and unstructured, solved layer by layer on calibration samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from infopt.model import Model
    from infopt.passes import Context

Pattern = Literal["2:4", "unstructured"]


def sparsified(model: Model, context: Context, pattern: Pattern, share: float) -> Model:
    """Zero weights and let those that are left make up for it.

    Args:
        model: A float model; it is left as it was.
        context: Brings calibration samples, memory and seed.
        pattern: ``"2:4"``: two of every four neighbouring input channels, as sparse tensor cores want it;
            ``"unstructured"``: wherever weights matter least.
        share: Part of the weights of all layers that can be made sparse that becomes zero, between 0 and 1; ``"2:4"``
            has one of its own and takes no notice.

    Returns:
        The sparse model, with what became of each layer.

    Raises:
        InputError: The model is quantized, there are no samples, or no layer can be made sparse.
        OptionError: The share is not between 0 and 1.
    """
    import numpy as np

    from infopt_passes.prune.sparse.apply import applied
    from infopt_passes.prune.sparse.layers import changes

    with np.errstate(over="ignore", invalid="ignore"):  # layers where something overflows are told of
        result = applied(model, context, pattern, share)
    return result.with_pruned(*changes(result, result.notes[len(model.notes) :]))
