"""Options of the verb ``drift``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from infopt.options import Opt, parse_fraction


@dataclass(frozen=True, slots=True)
class DriftOptions:
    """What to compare, and when a difference counts.

    A statistic has drifted when chance is an unlikely cause (``false_alarms``) and the difference is large enough to
    matter (``psi``; for clipping ``clipping``).
    """

    model: Annotated[
        Path | None, Opt("The model.onnx that the profile is of; default: the one beside it.", metavar="MODEL.onnx")
    ] = None
    preprocess: Annotated[
        str | None,
        Opt("How pictures become arrays: a TOML file or a built-in name; default: as in calibration.",
            metavar="NAME|FILE"),
    ] = None  # fmt: skip
    samples: Annotated[int | None, Opt("Most samples of the data to look at; default: all.", low=1)] = None
    inputs_only: Annotated[bool, Opt("Do not run the model: compare inputs alone.")] = False
    psi: Annotated[float, Opt("Smallest population stability index that counts as drift.", low=0)] = 0.1
    psi_major: Annotated[float, Opt("Index from which on a drift is called major.", low=0)] = 0.25
    clipping: Annotated[
        float,
        Opt("Smallest rise of a tensor's share of clipped values that counts: 1% or 0.01.", low=0, high=1,
            parse=parse_fraction),
    ] = 0.01  # fmt: skip
    false_alarms: Annotated[
        float,
        Opt("Share of runs that may call drift on data that have not drifted: 1% or 0.01.", low=1e-6, high=0.5,
            parse=parse_fraction),
    ] = 0.01  # fmt: skip
    seed: Annotated[int, Opt("Seed of everything random.", low=0)] = 0
    prometheus: Annotated[
        Path | None, Opt("Also write metrics for the node exporter's textfile collector.", metavar="FILE.prom")
    ] = None
    markdown: Annotated[Path | None, Opt("Also write the report as Markdown.", metavar="FILE.md")] = None
    recalibrate: Annotated[bool, Opt("Make a new artifact that is calibrated on the data; needs --output.")] = False
    output: Annotated[Path | None, Opt("Output directory of the new artifact.", ("--output", "-o"), metavar="PATH")] = (
        None
    )
    force: Annotated[bool, Opt("Replace an output of infopt that holds files of yours.")] = False
