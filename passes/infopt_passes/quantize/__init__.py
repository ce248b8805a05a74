"""Quantize: static INT8, placed as the target's table says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from infopt.options import Opt
from infopt.passes import Tolerance

if TYPE_CHECKING:
    from infopt.model import Model
    from infopt.passes import Context


@dataclass(frozen=True, slots=True)
class Quantize:
    """Puts Q/DQ pairs where the target has integer kernels, with ranges from calibration."""

    name: ClassVar[str] = "quantize"
    interface: ClassVar[Literal["same", "declared"]] = "same"
    repeat: ClassVar[Literal["unchanged", "refused", "again"]] = "refused"
    tolerance: ClassVar[Tolerance] = "measured"
    calibrated: ClassVar[bool] = True

    method: Annotated[
        Literal["fast"],
        Opt("How to choose: fast puts into integers all that the target runs, with ranges as observed."),
    ] = "fast"
    ranges: Annotated[
        Literal["minmax", "mean-minmax", "percentile", "entropy", "mse"],
        Opt(
            "Range of an activation: extremes over all samples, the mean of each sample's extremes, or clipped: "
            "at a percentile, to lose the least information, or for the least square error."
        ),
    ] = "minmax"
    percentile: Annotated[
        float, Opt("Share of the values, in percent, below the upper end of a range by percentile.", low=50, high=100)
    ] = 99.99
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

    def __call__(self, model: Model, context: Context) -> Model:
        """Return the quantized model; see :class:`infopt.passes.Pass`.

        Raises:
            InputError: The model is quantized already, there is no target or nothing to calibrate with, or a
                node to keep in float does not exist.
        """
        from infopt_passes.quantize.apply import quantized

        return quantized(model, self, context)
