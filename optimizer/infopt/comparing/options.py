"""Options of the verb ``predict``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from infopt.options import Opt


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What to run on, and where the outputs go."""

    data: Annotated[Path, Opt("Samples to run on; labels are not used.", ("--eval",), metavar="PATH")]
    output: Annotated[Path, Opt("The file to write.", ("--output", "-o"), metavar="FILE.npz")]
    preprocess: Annotated[
        str | None, Opt("How pictures become arrays: a TOML file or a built-in name.", metavar="NAME|FILE")
    ] = None
    batch_axis: Annotated[
        tuple[str, ...], Opt("Batch axis of an input, where it cannot be inferred.", metavar="NAME=AXIS|none")
    ] = ()
    force: Annotated[bool, Opt("Replace an existing file.")] = False
