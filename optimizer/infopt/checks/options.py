"""The options of ``check``, declared once for the command line and for Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from infopt.options import Opt


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What to check, and how."""

    target: Annotated[
        tuple[str, ...], Opt("Target to check for; may be given again. Default: all.", metavar="NAME")
    ] = ()
    isa: Annotated[
        Literal["auto", "avx2", "vnni", "amx", "arm"],
        Opt("Instruction set of the processor that will run it; auto: this machine's.", metavar="NAME"),
    ] = "auto"
    shape: Annotated[
        tuple[str, ...],
        Opt("Range of a dynamic input; may be given again.", metavar="NAME=MIN..OPT..MAX"),
    ] = ()
    no_build: Annotated[bool, Opt("Check by the rules alone; ask no runtime to parse and build the model.")] = False
    fix: Annotated[bool, Opt("Write a model with every repair that changes no result; takes -o and one target.")] = (
        False
    )
    output: Annotated[Path | None, Opt("The repaired model.", ("--output", "-o"), metavar="OUT.onnx")] = None
    force: Annotated[bool, Opt("Replace an existing file, even the model itself.")] = False
    sarif: Annotated[Path | None, Opt("Also write the findings as SARIF 2.1.0.", metavar="FILE")] = None
    seed: Annotated[int, Opt("Seed of the samples on which a repaired model is compared.", low=0)] = 0
