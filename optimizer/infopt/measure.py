"""Latency of an artifact against the runtime's own best float setting, measured in one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from infopt.bench import CandidateLatency, FloatLatency, Latency, Seconds, alternate, interleave, speedup, times
from infopt.data import Feed
from infopt.errors import RuntimeRefused
from infopt.target import Artifact, CompileOptions, Session, Target

RACE_SHARE = 0.35
"""Part of the time that goes to finding the fastest settings; the rest measures the two that are left."""


@dataclass(frozen=True, slots=True)
class Contest:
    """What is to be measured.

    Attributes:
        target: The runtime.
        floats: The float model compiled, by name of the setting.
        candidates: The artifact by name of the setting that it is opened with.
        feed: One batch.
        batch: Samples in it.
        seconds: Time to spend.
        seed: Seed of the order and of the interval.
    """

    target: Target
    floats: dict[str, Artifact]
    candidates: dict[str, Artifact]
    feed: Feed
    batch: int
    seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """What was found.

    Attributes:
        latency: For the report; the float setting's own accuracy is not in it yet.
        baseline: The float model in its fastest setting.
        candidate: The artifact with its fastest setting.
    """

    latency: Latency
    baseline: Artifact
    candidate: Artifact


def contest(plan: Contest) -> Result:
    """Find the fastest setting of either side, then measure the two winners against each other.

    The final measurement does not reuse the numbers that chose the winners, so it is not biased by the choice.

    Args:
        plan: What to measure.

    Returns:
        Latencies and winners.

    Raises:
        RuntimeRefused: No setting of one side runs.
    """
    with ExitStack() as stack:
        floats = _opened(plan.floats, plan, stack)
        candidates = _opened(plan.candidates, plan, stack)
        keys = [("float", name) for name in floats] + [("candidate", name) for name in candidates]
        sessions = {
            **{("float", n): s for n, s in floats.items()},
            **{("candidate", n): s for n, s in candidates.items()},
        }
        race = len(keys) > 2
        seen = _timed(keys, sessions, plan, plan.seconds * RACE_SHARE) if race else {}
        best = [_fastest([key for key in keys if key[0] == side], seen) for side in ("float", "candidate")]
    winners = {"float": plan.floats[best[0][1]], "candidate": plan.candidates[best[1][1]]}
    openers = {side: partial(_runner, plan, artifact) for side, artifact in winners.items()}
    final = alternate(openers, seconds=plan.seconds * (1 - RACE_SHARE if race else 1), seed=plan.seed)
    base, cand = final["float"], final["candidate"]
    ratio, interval = speedup(base, cand, plan.seed)
    latency = Latency(
        batch=plan.batch,
        threads=len(os.sched_getaffinity(0)),
        baseline_float=FloatLatency(best[0][1], None, times(base)),
        candidate=CandidateLatency(best[1][1], times(cand)),
        speedup=ratio,
        speedup_ci95=interval,
        runs=len(base),
    )
    return Result(latency, plan.floats[best[0][1]], plan.candidates[best[1][1]])


@contextmanager
def _runner(plan: Contest, artifact: Artifact) -> Iterator[Callable[[], object]]:
    with plan.target.open(artifact) as session:
        yield lambda: session.run(plan.feed)


def float_artifacts(target: Target, model: Path, folder: Path, options: CompileOptions) -> dict[str, Artifact]:
    """Compile the float model once for each float setting of the runtime.

    Args:
        target: The runtime.
        model: The original ONNX file.
        folder: Where to compile.
        options: Shapes; the settings are the target's.

    Returns:
        Artifact by name of the setting; settings that the runtime refuses are left out.
    """
    built: dict[str, Artifact] = {}
    for name, settings in target.settings("float").items():
        out = folder / f"float-{name}"
        out.mkdir()
        try:
            built[name] = target.compile(model, out, replace(options, settings=settings))
        except RuntimeRefused:
            continue
    return built


def _opened(artifacts: dict[str, Artifact], plan: Contest, stack: ExitStack) -> dict[str, Session]:
    """Sessions of the settings that really run; a setting that fails is out, unless all of them fail."""
    opened: dict[str, Session] = {}
    failure: RuntimeRefused | None = None
    for name, artifact in artifacts.items():
        try:
            session = stack.enter_context(plan.target.open(artifact))
            session.run(plan.feed)
            opened[name] = session
        except RuntimeRefused as error:
            failure = error
    if failure and not opened:
        raise failure
    return opened


def _timed(
    keys: list[tuple[str, str]], sessions: dict[tuple[str, str], Session], plan: Contest, seconds: float
) -> dict[str, Seconds]:
    runs = {str(key): (lambda session=sessions[key]: session.run(plan.feed)) for key in keys}
    return interleave(runs, seconds=seconds, seed=plan.seed)


def _fastest(keys: list[tuple[str, str]], seen: dict[str, Seconds]) -> tuple[str, str]:
    return min(keys, key=lambda key: times(seen[str(key)]).p50) if len(keys) > 1 else keys[0]
