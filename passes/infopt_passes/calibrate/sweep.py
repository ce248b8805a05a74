"""Runs samples through a session, several at once, and hands the results on in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    from infopt.data import Feed
    from infopt.target import Session

Array = npt.NDArray[Any]

MOST_STREAMS = 4
"""Samples that run at once, at most: each holds the activations of one."""


@dataclass(frozen=True, slots=True)
class Streams:
    """How the processor is shared out.

    Attributes:
        count: Samples that run at once.
        threads: Threads for each; one sample on one thread makes better use of it than of a share in several.
    """

    count: int
    threads: int

    @property
    def settings(self) -> dict[str, str]:
        """The runtime's settings."""
        settings = {"intra_op_num_threads": str(self.threads)}
        # Threads that wait busily for one sample would take the processor from another.
        return settings if self.count == 1 else settings | {"session.intra_op.allow_spinning": "0"}


def streams(sample_bytes: int, budget: int) -> Streams:
    """As many streams as there are processors and memory for.

    Args:
        sample_bytes: What the activations of one sample take.
        budget: What all may take.
    """
    cores = len(os.sched_getaffinity(0))
    count = max(1, min(MOST_STREAMS, cores, budget // max(sample_bytes, 1)))
    return Streams(count, max(1, cores // count))


def sweep(session: Session, feeds: Iterable[Feed], count: int) -> Iterator[list[Array]]:
    """Outputs of a session, feed by feed in order; no more than ``count`` samples are under way.

    Raises:
        RuntimeRefused: The runtime failed.
    """
    if count == 1:
        yield from (session.run(feed) for feed in feeds)
        return
    waiting: deque[Future[list[Array]]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for feed in feeds:
                waiting.append(pool.submit(session.run, feed))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
