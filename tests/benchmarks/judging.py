"""What artifacts lose on the evaluation samples of a model, infopt's own or not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from infopt import registry
from infopt.data import Samples, infer_batch_axes, open_samples, parse_batch_axis
from infopt.evaluate import Evaluator, evaluator
from infopt.manifest import sha256_files
from infopt.metrics import load_metric
from infopt.model import input_specs, load
from infopt.preprocess import load_preprocess
from infopt.target import Artifact
from infopt.targets.onnxruntime import open_onnx

if TYPE_CHECKING:
    from infopt.accuracy import Accuracy

    from .zoo import ZooModel


def evaluation_samples(model: ZooModel) -> Samples:
    """All evaluation samples of a model."""
    options = model.options
    axes = dict(parse_batch_axis(text) for text in options.get("batch_axis", ()))
    inputs = infer_batch_axes(input_specs(load(model.path).graph), axes)
    preprocess = load_preprocess(options["preprocess"]) if "preprocess" in options else None
    return open_samples(Path(options["eval"]), inputs, preprocess)


@contextmanager
def drops(model: ZooModel, kept: Path) -> Iterator[Callable[[Artifact], float]]:
    """What an artifact loses on the evaluation samples; kept in a file, as it takes minutes and stays the same."""
    known: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    with ExitStack() as stack:
        judges: list[Callable[[Artifact], float]] = []

        def drop(artifact: Artifact) -> float:
            key = (
                f"{sha256_files(artifact.files)} {artifact.target} {version(artifact.target)} {dict(artifact.settings)}"
            )
            if key not in known:
                if not judges:
                    judges.append(stack.enter_context(_evaluated(model)))
                known[key] = judges[0](artifact)
                kept.write_text(json.dumps(known, indent=1))
            return known[key]

        yield drop


@contextmanager
def _evaluated(model: ZooModel) -> Iterator[Callable[[Artifact], float]]:
    with judged(model) as judge:
        before = judge.score(judge.baseline)

        def drop(artifact: Artifact) -> float:
            with registry.target(artifact.target).open(artifact) as session:
                after = judge.score(judge.outputs(session, "peer"))
            return before - after if judge.metric.higher_is_better else after - before

        yield drop


@contextmanager
def judged(model: ZooModel) -> Iterator[Evaluator]:
    """What scores sessions against the original model in float32."""
    graph = load(model.path)
    axes = dict(parse_batch_axis(text) for text in model.options.get("batch_axis", ()))
    inputs = infer_batch_axes(input_specs(graph.graph), axes)
    samples, metric = evaluation_samples(model), load_metric(model.options["metric"])

    def quiet(what: str, done: int, total: int) -> None:
        pass

    with evaluator(
        open_onnx(model.path, {}), samples, inputs, metric, names=graph.output_names, seed=0, progress=quiet
    ) as judge:
        yield judge


def drop_interval(accuracy: Accuracy) -> tuple[float, float] | None:
    """95 % interval of the drop."""
    interval = accuracy.ci95
    if interval and accuracy.higher_is_better:
        return 0.0 - interval[1], 0.0 - interval[0]
    return interval
