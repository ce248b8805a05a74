"""How long a person waits for ``infopt --help``."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMAND = [sys.executable, "-c", "from infopt.cli import main; main()", "--help"]


def test_help_appears_within_300_milliseconds() -> None:
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        subprocess.run(COMMAND, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    print(f"\ninfopt --help: median {median:.3f} s, best {min(seconds):.3f} s (bar 0.3 s)")
    assert median < 0.3
