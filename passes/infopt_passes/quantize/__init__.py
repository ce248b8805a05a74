"""Quantize: to the precision that was asked for, placed as the target's table for it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from infopt.options import Opt
from infopt.passes import Tolerance
from infopt.precisions import UNCALIBRATED, Precision, table_for

if TYPE_CHECKING:
    from infopt.model import Model
    from infopt.passes import Context
    from infopt.target import Target


def power_of_two(value: Any) -> int:
    """A length of blocks that kernels know.

    Raises:
        ValueError: It is none.
    """
    number = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else 0
    if number not in BLOCKS:
        raise ValueError(f"choose {', '.join(map(str, BLOCKS))}")
    return number


BLOCKS = (16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Quantize:
    """Quantizes what the target runs in integers, activations with ranges from calibration, or weights alone."""

    name: ClassVar[str] = "quantize"
    interface: ClassVar[Literal["same", "declared"]] = "same"
    repeat: ClassVar[Literal["unchanged", "refused", "again"]] = "refused"
    tolerance: ClassVar[Tolerance] = "measured"

    precision: Annotated[
        Precision,
        Opt(
            "What is quantized to what. The -weights precisions leave activations in float, dynamic-int8 takes ranges "
            "of each run: they need no calibration samples. infopt targets NAME says what a target runs."
        ),
    ] = "int8"
    method: Annotated[
        Literal["auto", "fast"],
        Opt(
            "How to choose what is left to it: auto keeps what brings the outputs closer to the float model's, on "
            "samples that it sets apart; fast puts all that the target runs into integers, plainly."
        ),
    ] = "auto"
    time_limit: Annotated[
        float | None,
        Opt(
            "Seconds for choosing, with method auto; by default 60, or 12 times what one candidate takes, at most 600.",
            ("--time-limit",),
            low=1,
        ),
    ] = None
    ranges: Annotated[
        Literal["auto", "minmax", "mean-minmax", "percentile", "entropy", "mse"],
        Opt(
            "Range of an activation: extremes over all samples, the mean of each sample's extremes, or clipped: "
            "at a percentile, to lose the least information, or for the least square error. auto is as the method "
            "chooses."
        ),
    ] = "auto"
    percentile: Annotated[
        float, Opt("Share of the values, in percent, below the upper end of a range by percentile.", low=50, high=100)
    ] = 99.99
    equalize: Annotated[
        Literal["auto", "off", "weights", "activations"],
        Opt(
            "Rescale channels, which changes nothing in float: to even out the weights before and behind, or the "
            "activations against the weights that read them."
        ),
    ] = "auto"
    weight_ranges: Annotated[
        Literal["auto", "minmax", "mse"],
        Opt("Range of a weight: its extremes, or clipped for the least square error; auto is as the method chooses."),
    ] = "auto"
    rounding: Annotated[
        Literal["auto", "nearest", "least-squares"],
        Opt("Rounding of a weight: to nearest, or for the least square error of each layer's output on samples."),
    ] = "auto"
    bias_correction: Annotated[
        Literal["auto", "off", "on"],
        Opt("Let biases take back what rounding shifts each output channel by on samples."),
    ] = "auto"
    reconstruct: Annotated[
        Literal["auto", "off", "on"],
        Opt("Refit weights and biases to what their layers read in the quantized model on samples."),
    ] = "auto"
    keep_float: Annotated[
        tuple[str, ...], Opt("Node to keep in float, by name; may be repeated.", ("--keep-float",), metavar="NODE")
    ] = ()

    block: Annotated[
        int,
        Opt("Weights of a column that share a scale, for int4-weights: a power of two.", low=16, parse=power_of_two),
    ] = 32

    @property
    def calibrated(self) -> bool:
        """Whether it looks at samples; see :class:`infopt.passes.Pass`."""
        return self.precision not in UNCALIBRATED or self.rounding == "least-squares"

    def check_target(self, target: Target) -> None:
        """Stop before any work where a target cannot run the precision; see :class:`infopt.passes.ForTarget`.

        Raises:
            OptionError: With the reason, and the nearest precision that it runs; or an option has no use with it.
        """
        from infopt_passes.quantize.uses import check_used

        check_used(self, table_for(target, self.precision))

    def __call__(self, model: Model, context: Context) -> Model:
        """Return the quantized model; see :class:`infopt.passes.Pass`.

        Raises:
            InputError: The model is quantized already, there is no target or nothing to calibrate with, the target
                cannot run the precision, or a node to keep in float does not exist.
        """
        from infopt_passes.quantize.apply import quantized

        return quantized(model, self, context)
