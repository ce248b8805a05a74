"""Simplify: a smaller graph that computes the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from infopt.options import Opt
from infopt.passes import Tolerance

if TYPE_CHECKING:
    from infopt.model import Model
    from infopt.passes import Context


@dataclass(frozen=True, slots=True)
class Simplify:
    """Folds constants and BatchNorm, fuses and removes nodes, infers shapes.

    Constants are only folded while they stay small, so that a folded graph is never larger than it was and weights
    are not read without need.
    """

    name: ClassVar[str] = "simplify"
    interface: ClassVar[Literal["same", "declared"]] = "same"
    repeat: ClassVar[Literal["unchanged", "refused", "again"]] = "unchanged"
    tolerance: ClassVar[Tolerance] = 1e-4
    calibrated: ClassVar[bool] = False

    fold_limit: Annotated[
        int, Opt("Largest constant, in bytes, that folding may create.", ("--fold-limit",), low=0)
    ] = 1_048_576

    def __call__(self, model: Model, context: Context) -> Model:
        """Return the simplified model; see :class:`infopt.passes.Pass`."""
        from infopt_passes.simplify.branches import specialized
        from infopt_passes.simplify.fold import simplified

        result = simplified(model.graph, self.fold_limit, context.inputs)
        return model.edited(result, *specialized(model.graph, result))
