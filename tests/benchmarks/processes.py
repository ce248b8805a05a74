"""Commands as processes of their own, with what they take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

INFOPT = [sys.executable, "-c", "from infopt.cli import main; main()"]

LAUNCH = """
import json, os, sys, time
start = time.perf_counter()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
seconds, processor = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
print(json.dumps([status, seconds, usage.ru_maxrss / 1024, processor]), file=sys.stderr)
"""
"""Starts a command from a process that is small itself: a child's peak memory begins with its parent's."""


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds of wall time, its peak memory in MB, and seconds of all processors together."""

    seconds: float
    megabytes: float
    processor: float


@dataclass(frozen=True)
class Done:
    """A process that has ended.

    Attributes:
        cost: What it took.
        out: What it printed.
        error: What it said on stderr, if it failed; else ``None``.
    """

    cost: Cost
    out: str
    error: str | None


def run(command: list[str], given: str = "", **environment: str) -> Done:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        given: Its input.
        environment: Variables on top of those of this process.
    """
    launch = [sys.executable, "-I", "-S", "-c", LAUNCH, *command]
    done = subprocess.run(launch, input=given, check=True, capture_output=True, text=True, env=os.environ | environment)
    said, last = done.stderr.splitlines(), json.loads(done.stderr.splitlines()[-1])
    status, *taken = last
    return Done(Cost(*taken), done.stdout, "\n".join(said[:-1]) if status else None)


def cost(command: list[str], **environment: str) -> Cost:
    """What a command takes, which has to succeed."""
    done = run(command, **environment)
    assert done.error is None, done.error
    return done.cost


def flags(options: Mapping[str, Any]) -> list[str]:
    """Options of a verb in Python as arguments of the command line."""
    found = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(flag)
        elif value is not False:
            found += [part for one in (value if isinstance(value, tuple) else (value,)) for part in (flag, str(one))]
    return found
