"""The verb ``simplify``: a smaller graph, with the proof that it computes the same."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infopt.errors import InfoptError, OptionError
from infopt.model import blamed_on, load, save
from infopt.options import build
from infopt.output import staged_file
from infopt.passes import Context, run
from infopt.proof import largest_difference
from infopt.registry import pass_class


@dataclass(frozen=True, slots=True)
class Simplified:
    """What a simplification did.

    Attributes:
        path: The file that was written.
        nodes: Nodes before and after.
        bytes: Bytes of the weights before and after.
        difference: Largest difference of an output, relative to the output's largest value, over the proof's
            samples; ``None`` when nothing was run.
        unproven: Why nothing was run.
    """

    path: Path
    nodes: tuple[int, int]
    bytes: tuple[int, int]
    difference: float | None
    unproven: str | None


def simplify_file(
    model: Path, output: Path, verify: bool = True, force: bool = False, seed: int = 0, **options: Any
) -> Simplified:
    """Simplify an ONNX file.

    Args:
        model: The file to read.
        output: The file to write; its name ends in ``.onnx``.
        verify: Run both models on made-up samples and compare.
        force: Replace an existing file.
        seed: Seed of the samples.
        **options: Options of the ``simplify`` pass.

    Returns:
        What changed.

    Raises:
        InputError: A path or option that cannot be used.
        InfoptError: The proof failed; nothing is written.
    """
    if output.suffix != ".onnx":
        raise OptionError(f"{output} is not the name of an ONNX file", "give -o FILE.onnx")
    given = {name: value for name, value in options.items() if value is not None}
    step = build(pass_class("simplify"), given, "infopt simplify")
    before = load(model)
    with (
        staged_file(output, overwrite=force, protect=before.files) as staged,
        tempfile.TemporaryDirectory(prefix="infopt-") as work,
        blamed_on(model),
    ):
        after = run(before, [step], Context(Path(work), seed=seed))
        written = staged / output.name
        save(after.graph, written)
        difference, unproven = largest_difference(before, written, seed) if verify else (None, "not asked for")
        if difference is not None and not difference <= float(step.tolerance):  # NaN is no proof
            raise InfoptError(
                f"the simplified model differs by {difference:.2g} (relative), more than {step.tolerance}",
                "please report the model; nothing was written",
            )
    return Simplified(output, (before.nodes, after.nodes), (before.bytes, after.bytes), difference, unproven)
