"""A model for a target, and what is known of its artifacts while it is measured."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from infopt.accuracy import Accuracy, paired_accuracy

from ..processes import INFOPT, flags, run
from ..subjects import model_sha256
from .artifacts import FLOAT, Kept, settled

if TYPE_CHECKING:
    import numpy as np

    from infopt.data import Feed
    from infopt.evaluate import Evaluator
    from infopt.opened import Subject

    from ..zoo import ZooModel

SEED = 0


@dataclass
class Bench:
    """A model for a target, with what is known of its artifacts while it is measured.

    Attributes:
        model: The model.
        target: Name of the target.
        kept: Where artifacts are.
        judge: Scores outputs on the evaluation samples.
        feed: One sample.
        seen: Outputs by artifact.
    """

    model: ZooModel
    target: str
    kept: Kept
    judge: Evaluator
    feed: Feed
    seen: dict[Path, list[np.ndarray]] = field(default_factory=dict)

    def outputs(self, path: Path, side: Subject) -> list[np.ndarray]:
        """Outputs of an artifact over the evaluation samples, computed once."""
        if path not in self.seen:
            with side.open() as session:
                self.seen[path] = self.judge.outputs(session, path.name)
        return self.seen[path]

    def compared(self, before: list[np.ndarray], after: list[np.ndarray]) -> Accuracy:
        """Scores of two artifacts on the same samples."""
        samples, metric = self.judge.samples, self.judge.metric
        where = {"where": "deployed", "seed": SEED, "groups": samples.groups}
        return paired_accuracy(metric, before, after, samples.labels, **where)  # type: ignore[arg-type]

    def base(self) -> tuple[Subject, str]:
        """The model as it came, compiled for the target."""
        path = self.kept.path(FLOAT)
        if not self.kept.there(FLOAT):
            given = {"target": self.target, "no_eval": True, "output": path, **self.model.inputs}
            done = run([*INFOPT, "compile", str(self.model.path), *flags(given)])
            assert done.error is None, done.error
        return settled(path, self.feed)

    def key(self, *facts: object) -> str:
        """A hash of all that a row's numbers depend on."""
        known = [model_sha256(self.model), self.target, SEED, *facts]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
