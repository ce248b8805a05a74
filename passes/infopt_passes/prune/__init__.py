"""Prune: channels, attention heads and neurons that matter least are removed, or single weights become zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from infopt.errors import OptionError
from infopt.options import Opt, parse_fraction
from infopt.passes import Tolerance

if TYPE_CHECKING:
    from infopt.model import Model
    from infopt.passes import Context
    from infopt.target import Target

USUAL = 0.5
"""The part of the operations that is kept where nobody says how much."""

SPARSITY = 0.5
"""The part of the weights that becomes zero where nobody says how much."""


@dataclass(frozen=True, slots=True)
class Prune:
    """Removes channels, attention heads and neurons, or zeroes weights, and refits what is left on samples."""

    name: ClassVar[str] = "prune"
    interface: ClassVar[Literal["same", "declared"]] = "same"
    repeat: ClassVar[Literal["unchanged", "refused", "again"]] = "again"
    tolerance: ClassVar[Tolerance] = "measured"

    kind: Annotated[
        Literal["structured", "2:4", "unstructured"],
        Opt(
            "What goes: structured removes channels, heads and neurons; 2:4 zeroes two of every four neighbouring "
            "weights, for sparse tensor cores; unstructured zeroes those that matter least, which saves size."
        ),
    ] = "structured"
    sparsity: Annotated[
        float | None,
        Opt("Part of the weights that becomes zero, of the kind unstructured.", low=0, high=1, parse=parse_fraction),
    ] = None
    flops: Annotated[
        float | None,
        Opt(
            "Part of the operations to keep, as 0.5 or 50%; without any goal as little as --max-drop allows, else 0.5.",
            low=0,
            high=1,
            parse=parse_fraction,
        ),
    ] = None
    params: Annotated[
        float | None, Opt("Part of the parameters to keep, as 0.5 or 50%.", low=0, high=1, parse=parse_fraction)
    ] = None
    latency: Annotated[
        float | None,
        Opt("Part of the latency to keep, measured on the target.", low=0, high=1, parse=parse_fraction),
    ] = None
    importance: Annotated[
        Literal["activations", "magnitude"],
        Opt(
            "What tells how much a channel matters: activations is what the layers that read it lose on calibration "
            "samples, magnitude looks at weights alone."
        ),
    ] = "activations"
    multiple: Annotated[
        int, Opt("Channel counts are brought to multiples of it; 0 is what the target runs fast.", low=0)
    ] = 0
    recover: Annotated[
        Literal["lsq", "distill", "none"],
        Opt(
            "How accuracy is won back without labels: lsq refits layers by least squares to the float model's outputs; "
            "distill then trains all of them together (needs infopt[torch])."
        ),
    ] = "lsq"
    epochs: Annotated[
        int, Opt("Times that distillation looks at the samples, at most; 0 is what takes some minutes.", low=0)
    ] = 0
    fine_tune: Annotated[bool, Opt("Distillation learns from the labels of the calibration samples, too.")] = False
    steps: Annotated[int, Opt("Times that pruning and recovery alternate on the way to the goal.", low=1)] = 1
    time_limit: Annotated[
        float, Opt("Seconds for finding the largest cut that --max-drop allows.", ("--time-limit",), low=1)
    ] = 300.0

    @property
    def calibrated(self) -> bool:
        """Whether it looks at samples; see :class:`infopt.passes.Pass`."""
        recovers = self.importance == "activations" or self.recover != "none"
        return self.kind != "structured" or recovers or self.latency is not None

    @property
    def selects(self) -> bool:
        """Whether the budget is the goal; see :class:`infopt.passes.Selecting`."""
        goals = (self.flops, self.params, self.latency, self.sparsity)
        return self.kind != "2:4" and all(goal is None for goal in goals)

    @property
    def keeps_all(self) -> bool:
        """Whether it is to leave the model as it is: what is found where no cut keeps a budget."""
        return self.sparsity == 0 or 1 in (self.flops, self.params)

    def check_target(self, target: Target) -> None:
        """Stop before any work where the options do not fit together; see :class:`infopt.passes.ForTarget`.

        Raises:
            OptionError: Two goals, a goal that cannot be measured here, or one that the kind does not have.
        """
        self._check_kind()
        self._check_recovery()
        goals = [name for name in ("flops", "params", "latency") if getattr(self, name) is not None]
        if len(goals) > 1:
            raise OptionError(f"{' and '.join(f'--{name}' for name in goals)} are two goals", "give one of them")
        if self.latency is not None and (reason := target.available() or target.runnable()):
            raise OptionError(f"--latency cannot be measured: {reason}", "give --flops instead")
        for name in goals:
            if not getattr(self, name) > 0:
                raise OptionError(f"--{name} 0 would leave nothing of the model", "give a fraction such as 0.5")

    def _check_kind(self) -> None:
        if self.sparsity is not None and self.kind != "unstructured":
            raise OptionError(f"--sparsity has no use with --kind {self.kind}", "give --kind unstructured")
        if self.kind == "structured":
            return
        if given := [name for name in ("flops", "params", "latency") if getattr(self, name) is not None]:
            told = f"--{given[0]} is a goal of the kind structured, this is {self.kind}"
            raise OptionError(told, "give --sparsity 0.7 with --kind unstructured")
        for name, value in (("multiple", 0), ("steps", 1), ("importance", "activations")):
            if getattr(self, name) != value:
                raise OptionError(f"--{name} has no use with --kind {self.kind}", "leave it out")
        if self.recover == "none":
            told = f"--recover none has no use with --kind {self.kind}: the solve that chooses zeros refits the rest"
            raise OptionError(told, "leave it out")

    def _check_recovery(self) -> None:
        if self.recover == "distill":
            from infopt_passes.prune.distill import check_torch

            check_torch()
            return
        for flag, given in (("--fine-tune", self.fine_tune), ("--epochs", self.epochs > 0)):
            if given:
                raise OptionError(f"{flag} has no use with --recover {self.recover}", "give --recover distill")

    def _without_kernels(self, context: Context) -> str | None:
        """What is to be said where the target gains nothing by the pattern and it is forced all the same."""
        target = context.target
        if self.kind != "2:4" or target is None or target.table.sparse:
            return None
        why = f"{target.runtime} has no kernels for 2:4 sparse weights, so nothing"
        if not context.force:
            remedy = "use --target tensorrt, or --force if the file is for another place"
            raise OptionError(f"--kind 2:4: {why} would get faster", remedy)
        return f"{why} gets faster"

    def __call__(self, model: Model, context: Context) -> Model:
        """Return the pruned model; see :class:`infopt.passes.Pass`.

        Raises:
            InputError: The model is quantized, nothing can be pruned, or the goal is out of reach.
            OptionError: The target gains nothing by this kind.
        """
        if self.selects and context.selection is not None:
            from infopt_passes.prune.search import largest

            return largest(model, self, context, context.selection)
        if self.keeps_all:
            from infopt_passes.prune.apply import whole

            return whole(model)
        if self.kind != "structured":
            from infopt.model import Note
            from infopt_passes.prune.distill import check_model, sparse
            from infopt_passes.prune.sparse import sparsified

            without = self._without_kernels(context)
            check_model(model.graph, self, context)
            share = SPARSITY if self.sparsity is None else self.sparsity
            result = sparse(model, sparsified(model, context, self.kind, share), self, context)
            return result if without is None else result.edited(result.graph, Note("warning", "prune", without))
        from infopt_passes.prune.apply import pruned

        return pruned(model, self, context)
