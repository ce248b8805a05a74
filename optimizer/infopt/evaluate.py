"""Accuracy: runs sessions over the evaluation samples and scores them against the float baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from infopt.accuracy import Accuracy, Fidelity, fidelity, paired_accuracy
from infopt.budget import fractional
from infopt.changes import Changes, find_changes
from infopt.data import InputSpec, Samples
from infopt.errors import DataError
from infopt.metrics import Metric, default_metric, load_metric, measure
from infopt.outputs import OutputStore
from infopt.target import Session

EVALUATION_BATCH = 8
"""Samples per run where the model takes any batch: large enough to be quick, small enough for large pictures."""

Where = Literal["deployed", "emulated"]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Outputs that were made elsewhere.

    Attributes:
        outputs: One array for each output of the model, joined over the samples in their order; empty where missing.
    """

    outputs: tuple[np.ndarray, ...]


Source = Session | Recorded
"""Where outputs come from."""


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Scores sessions on the same samples, all against the outputs of the float baseline.

    Attributes:
        samples: What is evaluated on.
        inputs: The model's inputs.
        metric: What is scored.
        names: Names of the model's outputs.
        baseline: The baseline's outputs, joined over the samples.
        seed: Seed of the intervals.
        progress: Called with (what, done, total).
        stack: Holds spool files until the evaluation ends.
    """

    samples: Samples
    inputs: tuple[InputSpec, ...]
    metric: Metric
    names: tuple[str, ...]
    baseline: list[np.ndarray]
    seed: int
    progress: Progress = field(repr=False)
    stack: ExitStack = field(repr=False)

    def outputs(self, source: Source, what: str) -> list[np.ndarray]:
        """Outputs of a session, joined over all samples; ``what`` is shown while it runs."""
        store = self.stack.enter_context(OutputStore(self.metric.outputs))
        return collect(source, self.samples, self.inputs, store, lambda done, total: self.progress(what, done, total))

    def accuracy(self, outputs: list[np.ndarray], where: Where) -> Accuracy:
        """The metric before and after, with its interval."""
        labels = self.samples.labels
        groups = self.samples.groups
        return paired_accuracy(self.metric, self.baseline, outputs, labels, where=where, seed=self.seed, groups=groups)

    def score(self, outputs: list[np.ndarray]) -> float:
        """The metric of one set of outputs."""
        labels = self.baseline[0] if self.metric.reference or self.samples.labels is None else self.samples.labels
        return measure(self.metric, outputs, labels)

    @property
    def fraction(self) -> bool:
        """Whether the metric lies between 0 and 1: it says so, or the baseline's score looks like it."""
        return self.metric.fraction or fractional([self.score(self.baseline)], self.metric.higher_is_better)

    def fidelity(self, outputs: list[np.ndarray]) -> tuple[Fidelity, ...]:
        """How close outputs are to the baseline's; needs no labels."""
        return fidelity(self.names, self.baseline, outputs)

    def changes(self, outputs: list[np.ndarray], accuracy: Accuracy) -> Changes:
        """The classes and samples that changed; see :func:`infopt.changes.find_changes`."""
        return find_changes(self.metric, self.baseline, outputs, self.samples, accuracy)


@contextmanager
def evaluator(  # noqa: PLR0913 - everything that a comparison depends on
    source: Source,
    samples: Samples,
    inputs: tuple[InputSpec, ...],
    metric: Metric | None,
    *,
    names: tuple[str, ...],
    seed: int,
    progress: Progress,
) -> Iterator[Evaluator]:
    """Run the baseline over the samples, ready to score others against it.

    Args:
        source: The original model in float32, or what else is the baseline.
        samples: The evaluation samples.
        inputs: The model's inputs.
        metric: The user's metric; ``None`` chooses one that fits labels and outputs.
        names: Names of the model's outputs.
        seed: Seed of the intervals.
        progress: Called with (what, done, total).

    Raises:
        DataError: The metric needs labels and the samples have none.
    """
    check_labels(metric, samples)
    with ExitStack() as stack:
        store = stack.enter_context(OutputStore(metric.outputs if metric else None))
        baseline = collect(source, samples, inputs, store, lambda done, total: progress("baseline", done, total))
        chosen = metric or load_metric(default_metric(samples.labels, baseline[0].shape))
        yield Evaluator(samples, inputs, chosen, names, baseline, seed, progress, stack)


def check_labels(metric: Metric | None, samples: Samples) -> None:
    """See to it that a metric has the labels that it needs.

    Raises:
        DataError: It has not.
    """
    if metric is not None and not metric.reference and samples.labels is None:
        remedy = "add labels, or use --metric agreement"
        raise DataError(f"metric {metric.name!r} needs labels and {samples.path} has none", remedy)


def collect(
    source: Source,
    samples: Samples,
    inputs: tuple[InputSpec, ...],
    store: OutputStore,
    progress: Callable[[int, int], None],
) -> list[np.ndarray]:
    """The outputs of a session over all samples; recorded outputs as they are.

    Args:
        source: What to run.
        samples: What to run it on.
        inputs: The model's inputs.
        store: Joins the batches.
        progress: Called with (done, total).

    Raises:
        DataError: Samples or outputs that cannot be used.
        RuntimeRefused: The runtime fails.
    """
    if isinstance(source, Recorded):
        return list(source.outputs)
    fixed = next((spec.fixed_batch for spec in inputs if spec.fixed_batch), None)
    done = 0
    for batch in samples.batches(EVALUATION_BATCH):
        store.add(source.run(batch.feed), batch.count, fixed or batch.count)
        done += batch.count
        progress(done, len(samples))
    return store.finish()
