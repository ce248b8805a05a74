"""Ctrl-C and SIGTERM in the middle of a run: the old output stays as it was, and nothing is left beside it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Cli

LONG = ("--calib", "calib.npz", "--eval", "eval.npz", "--bench-seconds", "60", "-o", "out", "-v")
SLOW = """
import sys, time
def score(outputs, labels):
    print("scoring", file=sys.stderr, flush=True)
    time.sleep(60)
"""

IMPORTING = """
import sys
from infopt.cli import main

class Stop:
    def find_spec(self, name, *_):
        if name == "infopt.cli.app":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stop())
main()
"""


def until_said(child: subprocess.Popen[str], words: str) -> None:
    """Wait until the child says something on stderr."""
    assert child.stderr is not None
    said = []
    for line in child.stderr:
        said.append(line)
        if words in line:
            return
    pytest.fail(f"it ended without saying {words!r}: {said}")


def stopped(child: subprocess.Popen[str], *signals: signal.Signals) -> tuple[int, str, str]:
    for number in signals:
        child.send_signal(number)
        time.sleep(0.005)
    out, err = child.communicate(timeout=60)
    return child.returncode, out, err


@pytest.mark.parametrize(
    ("target", "number", "code"), [("onnxruntime", signal.SIGINT, 130), ("openvino", signal.SIGTERM, 143)]
)
def test_a_run_that_is_stopped_leaves_the_old_output(cli: Cli, target: str, number: signal.Signals, code: int) -> None:
    assert cli.quantize("-o", "out").code == 0
    before = cli.listing()
    child = cli.start("quantize", "model.onnx", *LONG, "--target", target)
    until_said(child, "Measuring latency")
    assert len(cli.listing()) > len(before)
    time.sleep(0.3)
    assert stopped(child, number) == (code, "", "")
    assert cli.listing() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_first_run_that_is_stopped_leaves_nothing(cli: Cli, number: signal.Signals, code: int) -> None:
    before = cli.listing()
    child = cli.start("quantize", "model.onnx", *LONG, "-o", "new/folder/out")
    until_said(child, "Optimizing")
    returned, out, err = stopped(child, number)
    assert (returned, out) == (code, "")
    assert "Traceback" not in err
    assert cli.listing() == before


def test_a_comparison_that_is_stopped_leaves_nothing(cli: Cli) -> None:
    Path("slow.py").write_text(SLOW)
    before = cli.listing()
    child = cli.start("compare", "model.onnx", "model.onnx", "--eval", "eval.npz", "--metric", "slow.py:score")
    until_said(child, "scoring")
    assert stopped(child, signal.SIGINT) == (130, "", "")
    assert cli.listing() == before


def test_a_second_signal_does_not_stop_the_cleaning_up(cli: Cli) -> None:
    before = cli.listing()
    child = cli.start("quantize", "model.onnx", *LONG)
    until_said(child, "Measuring latency")
    code, out, err = stopped(child, signal.SIGTERM, signal.SIGTERM, signal.SIGTERM)
    assert code in (143, -signal.SIGTERM)  # the third may come when all is cleaned up
    assert (out, err) == ("", "")
    assert cli.listing() == before


def test_what_a_killed_run_left_is_swept_by_the_next(cli: Cli) -> None:
    assert cli.quantize("-o", "out").code == 0
    before = cli.listing("out")
    child = cli.start("quantize", "model.onnx", *LONG)
    until_said(child, "Measuring latency")
    assert stopped(child, signal.SIGKILL)[0] == -signal.SIGKILL
    assert cli.listing("out") == before
    assert list(cli.folder.glob(".out.infopt-tmp-*"))
    assert cli.quantize("-o", "out").code == 0
    assert not list(cli.folder.glob(".out*"))


def test_an_interrupt_while_modules_are_imported_is_quiet() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_output_that_nobody_reads_is_no_traceback(cli: Cli) -> None:
    child = cli.start("quantize", "model.onnx", "--calib", "calib.npz", "--no-eval", "--json")
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    err = child.stderr.read()
    child.stderr.close()
    assert child.wait(60) == 1
    assert "Traceback" not in err
