"""Latency: all artifacts of a model for a target in turns, so that a busy machine slows all alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from infopt.bench import alternate, speedup

from .artifacts import FLOAT, settled, sha256
from .records import Pruned, Speed

if TYPE_CHECKING:
    from infopt.data import Feed
    from infopt.opened import Subject

    from .bench import Bench

SECONDS = 3.0
"""Time of each artifact, over all rounds."""

ROUNDS = 12


def speeds(bench: Bench, rows: Sequence[Pruned], known: dict[str, str]) -> list[Speed]:
    """Measure all artifacts of a model, unless nothing has changed.

    Args:
        bench: The model for a target.
        rows: What was pruned.
        known: Keys of the rows that are known already, by variant; with a new one all are measured again, as only
            latencies of one run can be compared.
    """
    sides = {FLOAT: bench.base()[0]}
    sides |= {row.variant: settled(bench.kept.path(row.variant), bench.feed, row.setting)[0] for row in rows}
    base = sha256(sides[FLOAT])
    keys = {row.variant: bench.key(base, sha256(sides[row.variant])) for row in rows}
    if not rows or keys.items() <= known.items():
        return []
    openers = {name: partial(_runner, side, bench.feed) for name, side in sides.items()}
    seen = alternate(openers, seconds=SECONDS * len(openers), rounds=ROUNDS)
    return [_speed(row, keys[row.variant], seen[FLOAT], seen[row.variant]) for row in rows]


def _speed(row: Pruned, key: str, base: np.ndarray, seconds: np.ndarray) -> Speed:
    ratio, interval = speedup(base, seconds)
    turned = None if interval is None else (1 / interval[1], 1 / interval[0])
    ms = [float(np.median(each)) * 1e3 for each in (seconds, base)]
    return Speed(row.model, row.target, row.variant, key, None, 1 / ratio, turned, *ms, os.getloadavg()[0])


@contextmanager
def _runner(side: Subject, feed: Feed) -> Iterator[Callable[[], object]]:
    with side.open() as session:
        yield lambda: session.run(feed)
