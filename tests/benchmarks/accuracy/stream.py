"""A recurrent model over a stream of samples, fed with its own state, so that an error may build up."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infopt.errors import InfoptError
from infopt.metrics import load_metric, measure
from infopt.opened import subject
from infopt.targets.onnxruntime import open_onnx

from ..judging import evaluation_samples
from ..sheets import short
from ..subjects import for_target
from .records import Stream
from .running import Plan, quantize

if TYPE_CHECKING:
    from infopt.data import Feed
    from infopt.target import Session

    from ..zoo import ZooModel

STREAMS = {"silero_vad": ("state", 1, 0.032)}
"""The input that takes the state, the output that gives it, and the seconds of a sample, by model."""

SECONDS = 60.0
MARKS = range(10, 61, 10)


@dataclass(frozen=True, slots=True)
class Streamed:
    """A plan of which the artifact is run over the evaluation samples in their order, from a state of zeros."""

    plan: Plan

    def row(self) -> Stream:
        """The row without its numbers."""
        run = self.plan.row()
        key = hashlib.sha256(json.dumps([run.key, SECONDS]).encode()).hexdigest()[:16]
        return Stream(run.model, run.target, run.variant, key, run.reason)

    def measure(self, row: Stream) -> Stream:
        """The row with its numbers, or with the reason why there are none."""
        if row.reason:
            return row
        model = for_target(self.plan.model, self.plan.target)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            try:
                quantize(model, self.plan.target, {**self.plan.options, "no_eval": True}, out)
                with subject(out).open() as session:
                    return _compared(row, model, session)
            except InfoptError as error:
                return replace(row, reason=short(error))


def _compared(row: Stream, model: ZooModel, session: Session) -> Stream:
    state, output, step = STREAMS[row.model]
    samples = evaluation_samples(model)
    feeds = [batch.feed for batch in samples.batches(1)]
    # Where the data are shorter than the stream, they begin anew; the state goes on.
    order = np.arange(round(SECONDS / step)) % len(feeds)
    labels = np.asarray(samples.labels)[order]
    metric = load_metric(model.options["metric"])
    before, wanted = _streamed(open_onnx(model.path, {}), feeds, order, (state, output))
    after, got = _streamed(session, feeds, order, (state, output))
    marks = {str(mark): min(round(mark / step), len(order)) - 1 for mark in MARKS}
    return replace(
        row,
        baseline=measure(metric, [before], labels),
        score=measure(metric, [after], labels),
        seconds=len(order) * step,
        drift={mark: _rms(got[at] - wanted[at]) for mark, at in marks.items()},
        size={mark: _rms(wanted[at]) for mark, at in marks.items()},
    )


def _streamed(
    session: Session, feeds: list[Feed], order: np.ndarray, names: tuple[str, int]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Output 0 joined over the stream, and the states."""
    name, output = names
    state = np.zeros_like(feeds[0][name])
    first, states = [], []
    for i in order:
        outputs = session.run({**feeds[i], name: state})
        state = np.array(outputs[output])
        first.append(np.array(outputs[0]))
        states.append(state)
    return np.concatenate(first), states


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
