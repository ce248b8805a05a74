"""The options of ``blame``, declared once for the command line and for Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from infopt.options import Opt


@dataclass(frozen=True, slots=True)
class BlameOptions:
    """What to look at, and how long."""

    calib: Annotated[Path | None, Opt("Samples to compare on; default: the recipe's.", metavar="PATH")] = None
    eval: Annotated[
        Path | None, Opt("Labelled samples that tell what a layer does to the metric; default: the recipe's.",
                         metavar="PATH")
    ] = None  # fmt: skip
    samples: Annotated[int, Opt("Samples to compare the tensors on, at most.", low=1)] = 16
    time_limit: Annotated[float, Opt("Seconds for trying layers and remedies.", low=0)] = 60.0
    no_bench: Annotated[bool, Opt("Do not measure what it costs to leave a layer in float.")] = False
    apply: Annotated[bool, Opt("Quantize again with what helps; takes -o.")] = False
    output: Annotated[
        Path | None, Opt("Where --apply writes its output directory.", ("--output", "-o"), metavar="PATH")
    ] = None
    force: Annotated[bool, Opt("With --apply: replace an output of infopt that holds files of yours.")] = False
    markdown: Annotated[Path | None, Opt("Also write the tables as Markdown.", metavar="FILE.md")] = None
