"""The command line: measures what is asked for and not known yet, then prints the tables."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from infopt.deliver import environment

from ..raw import Store, read, today
from ..sheets import put
from ..subjects import TARGETS, found
from ..variants import label
from ..zoo import MODELS, ROOT, SAMPLES, PeerTools, ZooModel
from . import readme
from .peers import measure_peers
from .records import Measured
from .running import SEED, Plan
from .stream import STREAMS, Streamed
from .tables import sheets
from .variants import ABLATION, WEIGHTS, defaults, methods

PARTS = ("head-to-head", "ablation", "stream", "weights")
KEPT = Path(__file__).with_name("measured.json")
WEIGHTS_OF = ("minilm_sentiment",)
"""Models whose weights are most of what they are: the table of weight precisions is about these."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    given = parsed(arguments)
    console = Console(width=None if Console().is_terminal else 220)
    measured = read(Measured, given.source) if given.source else measure(given, console)
    for sheet in sheets(measured):
        console.print(sheet.rich())
    console.print(f"raw numbers: {given.source or given.json}")
    if given.readme:
        put(ROOT / "README.md", readme.MARK, readme.block(measured))


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.accuracy", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help=f"tables to measure: {', '.join(PARTS)}; all")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--target", choices=TARGETS, default=TARGETS[0], help="target of ablation and weights")
    parser.add_argument(
        "--json", type=Path, default=KEPT, help="file of raw numbers; what is in it is not measured again"
    )
    parser.add_argument("--from", type=Path, dest="source", help="measure nothing: print the tables of a file")
    parser.add_argument("--readme", action="store_true", help="put the tables into README.md")
    parser.add_argument("--fresh", action="store_true", help="measure what is known, too")
    return parser.parse_args(arguments)


def measure(given: argparse.Namespace, console: Console) -> Measured:
    """Measure what is asked for."""
    known = read(Measured, given.json) if given.json.exists() else Measured("", SAMPLES, SEED, {})
    store = Store(
        given.json, replace(known, date=today(), environment=environment(), default=label(defaults())), given.fresh
    )
    zoo = Path(os.environ.get("INFOPT_ZOO", ROOT.parent / "shared" / "zoo"))
    parts = given.parts or PARTS
    with tempfile.TemporaryDirectory() as scratch:
        tools = peer_tools(Path(scratch))
        for model in found(zoo, given.models, Path(scratch)):
            for plan in plans(model, given, parts):
                console.print(f"{model.name} {plan.target} {label(plan.options)}", style="dim")
                store.add(plan.row(), plan.measure)
            for target in given.targets if "stream" in parts and model.name in STREAMS else ():
                for streamed in (Streamed(Plan(model, target, options)) for options in methods()):
                    store.add(streamed.row(), streamed.measure)
            for target in given.targets if tools and "head-to-head" in parts else ():
                assert tools
                console.print(f"{model.name} {target} peers", style="dim")
                measure_peers(model, target, tools, store)
    return store.measured


def plans(model: ZooModel, given: argparse.Namespace, parts: Sequence[str]) -> list[Plan]:
    """The runs of infopt that the parts need, each once."""
    wanted = [(target, options) for target in given.targets for options in methods() if "head-to-head" in parts]
    wanted += [(given.target, options) for options in ABLATION if "ablation" in parts]
    chosen = "weights" in parts and model.name in WEIGHTS_OF
    wanted += [(given.target, options) for options in WEIGHTS if chosen]
    once = {(target, label(options)): Plan(model, target, options) for target, options in wanted}
    return list(once.values())


def peer_tools(scratch: Path) -> PeerTools | None:
    """The peers, if an interpreter for them is named."""
    python, kept = os.environ.get("INFOPT_PEER_PYTHON"), os.environ.get("INFOPT_PEER_ARTIFACTS")
    script = Path(os.environ.get("INFOPT_PEERS", ROOT.parent / "shared" / "peers")) / "make.py"
    if not python or not script.exists():
        return None
    return PeerTools(script, python, os.environ.get("INFOPT_MODELOPT_PYTHON"), Path(kept) if kept else scratch)


if __name__ == "__main__":
    main()
