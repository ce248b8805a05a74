"""A recipe: everything that a run needs, as one frozen value that reads from and writes to TOML.

The command line builds one from its flags, a file holds one, and each run saves the one that it resolved. Sections
are option dataclasses, so a recipe key is declared once, with its flag and its help (see :mod:`infopt.options`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from infopt.budget import Budget
from infopt.errors import OptionError, unknown
from infopt.options import Opt, build, parse_size, plain, read_toml, show_size, split_function

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infopt.model import Step
    from infopt.passes import Pass


@dataclass(frozen=True, slots=True)
class Job:
    """What to optimize, for what, to where."""

    model: Annotated[Path, Opt("The ONNX model.", metavar="MODEL", cli=False)]
    target: Annotated[
        str, Opt("Runtime to optimize for: onnxruntime, openvino, tensorrt, tensorrt-rtx.", metavar="NAME")
    ] = "onnxruntime"
    isa: Annotated[
        Literal["auto", "avx2", "vnni", "amx", "arm"],
        Opt("Instruction set of the processor that will run the artifact; auto: this machine's.", metavar="NAME"),
    ] = "auto"
    output: Annotated[
        Path | None,
        Opt("Output directory; default: <model stem>.<target>.infopt.", ("--output", "-o"), metavar="PATH"),
    ] = None
    force: Annotated[
        bool,
        Opt(
            "Quantize a model that is quantized already; replace an output of infopt that holds files of yours; "
            "prune to 2:4 where no kernels are for it."
        ),
    ] = False
    require_engine: Annotated[bool, Opt("Exit with code 4 when the artifact cannot be built here.")] = False
    seed: Annotated[int, Opt("Seed of everything random.", low=0)] = 0


@dataclass(frozen=True, slots=True)
class Inputs:
    """How samples become feeds; used by calibration and evaluation alike."""

    preprocess: Annotated[
        str | None, Opt("How pictures become arrays: a TOML file or a built-in name.", metavar="NAME|FILE")
    ] = None
    batch: Annotated[int, Opt("Batch size of the latency measurement.", low=1)] = 1
    batch_axis: Annotated[
        tuple[str, ...], Opt("Batch axis of an input, where it cannot be inferred.", metavar="NAME=AXIS|none")
    ] = ()
    shape: Annotated[
        tuple[str, ...], Opt("Range of a dynamic input shape, 1x3x224x224..8x3x224x224..32x3x224x224.",
                             metavar="NAME=MIN..OPT..MAX")
    ] = ()  # fmt: skip


@dataclass(frozen=True, slots=True)
class Calibration:
    """Samples that passes look at; labels are not used."""

    data: Annotated[
        Path | None, Opt("Calibration samples; default: calibration_data/.", ("--calib",), metavar="PATH")
    ] = None
    samples: Annotated[int, Opt("Calibration samples to use.", low=1)] = 300
    memory: Annotated[
        int,
        Opt(
            "Memory for weights and activations during calibration, such as 512MB or 2GB.",
            metavar="SIZE",
            low=1_000_000,
            parse=parse_size,
            show=show_size,
        ),
    ] = 2_000_000_000
    held_back: Annotated[
        bool, Opt("Leave out the samples by which the recipe's options were chosen: one of four.", cli=False)
    ] = False
    synthetic: Annotated[bool, Opt("Allow made-up calibration inputs; accuracy is then not measured.")] = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Samples and metric that the report is about."""

    data: Annotated[
        Path | None, Opt("Evaluation samples; default: calibration_data/.", ("--eval",), metavar="PATH")
    ] = None
    metric: Annotated[
        str | None,
        Opt(
            "top1, top5, agreement, cosine, r2 or FILE.py:function; default: what fits.",
            metavar="NAME|FILE.py:function",
        ),
    ] = None
    confirmation: Annotated[
        bool, Opt("Leave out the samples by which the recipe's options were chosen: the search part.", cli=False)
    ] = False
    skip: Annotated[bool, Opt("Measure neither accuracy nor latency.", ("--no-eval",))] = False
    skip_bench: Annotated[bool, Opt("Do not measure latency.", ("--no-bench",))] = False
    seconds: Annotated[float, Opt("Time for measuring latency.", ("--bench-seconds",), low=0.1)] = 8.0
    samples_in_report: Annotated[
        bool, Opt("Put small pictures of the most changed samples, or their text, into the report.")
    ] = False
    tokenizer: Annotated[
        Path | None,
        Opt("Makes text of token ids for --samples-in-report: tokenizer.json or vocab.txt.", metavar="FILE"),
    ] = None


SECTIONS = {"calibration": Calibration, "evaluation": Evaluation, "inputs": Inputs, "budget": Budget}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run does.

    Attributes:
        job: Model, target and output; the keys at the top of the file.
        calibration: Section ``[calibration]``.
        evaluation: Section ``[evaluation]``.
        inputs: Section ``[inputs]``.
        budget: Section ``[budget]``.
        passes: One ``[[pass]]`` table each, in order.
    """

    job: Job
    calibration: Calibration = Calibration()
    evaluation: Evaluation = Evaluation()
    inputs: Inputs = Inputs()
    budget: Budget = Budget()
    passes: tuple[Pass, ...] = field(default=())


def parse(table: Mapping[str, Any], where: str, passes: tuple[Pass, ...] = ()) -> Recipe:
    """A recipe from a TOML-like mapping.

    Args:
        table: Keys of :class:`Job` at the top, sections, and ``pass`` as a list of tables with ``use``.
        where: How to name the mapping in errors.
        passes: The passes when the mapping lists none.

    Raises:
        OptionError: A key or name that does not exist, or a value that does not fit.
    """
    top = {key: value for key, value in table.items() if key not in SECTIONS and key != "pass"}
    known = [f.name for f in fields(Job)] + [*SECTIONS, "pass"]
    for key in top:
        if key not in known:
            raise unknown(f"key in {where}:", key, known)
    for key, kind in {**dict.fromkeys(SECTIONS, dict), "pass": list}.items():
        if key in table and not isinstance(table[key], kind):
            raise OptionError(f"{where}: {key!r} is not a section", f"write [{key}] or [[pass]]")
    sections: dict[str, Any] = {
        key: build(cls, table.get(key, {}), f"{where} [{key}]") for key, cls in SECTIONS.items()
    }
    listed = tuple(_pass(entry, where) for entry in table.get("pass", ()))
    return Recipe(build(Job, top, where), passes=listed or passes, **sections)


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe file; relative paths in it are relative to its folder.

    Args:
        path: The TOML file.
        overrides: A mapping of the same form whose keys win, relative to the current directory.

    Raises:
        OptionError: The file cannot be read or is not TOML, or as :func:`parse`.
    """
    recipe = rebase(parse(read_toml(path, "recipe"), str(path)), path.parent)
    return parse(merge(to_table(recipe), overrides), str(path)) if overrides else recipe


def merge(table: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with another laid over it; sections are merged key by key."""
    result = dict(table)
    for key, value in overrides.items():
        below = result.get(key)
        result[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def to_table(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the mapping that :func:`parse` reads; defaults are written out."""
    table = plain(recipe.job)
    table.update({key: plain(getattr(recipe, key)) for key in SECTIONS})
    table["pass"] = [{"use": step.name, **plain(step)} for step in recipe.passes]
    return table


def to_toml(recipe: Recipe, folder: Path) -> str:
    """A recipe as a TOML file that runs again.

    Args:
        recipe: The resolved recipe.
        folder: Where the file will lie; paths are written relative to it where they can be.
    """
    table = to_table(_relative(recipe, folder))
    lines = [f"{key} = {_toml(value)}" for key, value in table.items() if not isinstance(value, dict) and key != "pass"]
    for key in SECTIONS:
        if table[key]:
            lines += ["", f"[{key}]", *(f"{name} = {_toml(value)}" for name, value in table[key].items())]
    for entry in table["pass"]:
        lines += ["", "[[pass]]", *(f"{name} = {_toml(value)}" for name, value in entry.items())]
    return "\n".join(lines) + "\n"


def settled(recipe: Recipe, steps: Sequence[Step]) -> Recipe:
    """A recipe that repeats a run without searching again: its passes have the options that they ran with.

    Args:
        recipe: What was run.
        steps: The steps of the run, one for each pass.
    """
    ran = zip(recipe.passes, steps, strict=True)
    passes = tuple(build(type(step), done.options, f"pass {done.name!r}") for step, done in ran)
    return replace(recipe, passes=passes)


def rebase(recipe: Recipe, folder: Path) -> Recipe:
    """A recipe whose relative paths are taken from a folder."""
    return _paths(recipe, lambda path: Path(os.path.normpath(folder / path)))


def unplaced(recipe: Recipe) -> Recipe:
    """A recipe with the names of files alone, for telling whether two runs did the same."""
    return _paths(recipe, lambda path: Path(path.name))


def _relative(recipe: Recipe, folder: Path) -> Recipe:
    return _paths(recipe, lambda path: Path(os.path.relpath(path.resolve(), folder.resolve())))


def _paths(recipe: Recipe, move: Callable[[Path], Path]) -> Recipe:
    """A recipe with every path in it moved; names of built-ins are no paths."""

    def text(value: str | None) -> str | None:
        file, function = split_function(value or "")
        if not file.endswith((".toml", ".py")):
            return value
        return move(Path(file)).as_posix() + (f":{function}" if function else "")

    job, calib, evaluation = recipe.job, recipe.calibration, recipe.evaluation
    return replace(
        recipe,
        job=replace(job, model=move(job.model), output=job.output and move(job.output)),
        calibration=replace(calib, data=calib.data and move(calib.data)),
        evaluation=replace(
            evaluation,
            data=evaluation.data and move(evaluation.data),
            metric=text(evaluation.metric),
            tokenizer=evaluation.tokenizer and move(evaluation.tokenizer),
        ),
        inputs=replace(recipe.inputs, preprocess=text(recipe.inputs.preprocess)),
    )


def _pass(entry: Any, where: str) -> Pass:
    from infopt.registry import pass_class

    if not isinstance(entry, Mapping) or not isinstance(entry.get("use"), str):
        raise OptionError(f"{where}: a [[pass]] lacks its 'use' key", 'write use = "simplify"')
    options = {key: value for key, value in entry.items() if key != "use"}
    return build(pass_class(entry["use"]), options, f"{where} pass {entry['use']!r}")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        import json

        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
