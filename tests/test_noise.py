"""How far outputs are from the float model's: pieces of outputs, and what counts as signal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infopt.concatenated import pieces
from infopt.noise import decibels, output_judge

PIECES = [
    ("y = Concat<axis=1>(a, b)", [{1: (0, 2)}, {1: (2, 5)}]),
    ("c = Concat<axis=1>(a, b)  y = Concat<axis=0>(c, c)", None),  # the size of the batch is not known
    ("c = Concat<axis=1>(a, b)  y = Concat<axis=1>(c, a)", [{1: (0, 2)}, {1: (2, 5)}, {1: (5, 7)}]),
    (
        "c = Concat<axis=1>(a, b)  y = Concat<axis=2>(c, c)",
        [{1: (0, 2), 2: (0, 6)}, {1: (2, 5), 2: (0, 6)}, {1: (0, 2), 2: (6, 12)}, {1: (2, 5), 2: (6, 12)}],
    ),
    ("c = Concat<axis=1>(a, b)  y = Transpose<perm=[0, 2, 1]>(c)", [{2: (0, 2)}, {2: (2, 5)}]),
    ("t = Transpose<perm=[0, 2, 1]>(a)  u = Transpose<perm=[0, 2, 1]>(b)  c = Concat<axis=2>(t, u)  "
     "y = Reshape(c, five)", [{1: (0, 2)}, {1: (2, 5)}]),
    ("c = Concat<axis=1>(a, b)  y = Reshape(c, six)", None),
    ("y = Relu(a)", None),
]  # fmt: skip


ENDS = {"five": "M,5", "six": "M,6"}


@pytest.mark.parametrize(("text", "wanted"), PIECES)
def test_an_output_is_cut_where_it_was_concatenated(build: Any, text: str, wanted: Any) -> None:
    shapes = {"five": np.array([-1, 5]), "six": np.array([-1, 6])}
    shape = next((shape for name, shape in ENDS.items() if name in text), "N,K,L")
    head = f"(float[N,2,6] a, float[N,3,6] b) => (float[{shape}] y)"
    model = build(f"{head} {{ {text} }}", **{name: array for name, array in shapes.items() if name in text})
    (output,) = model.graph.graph.outputs
    assert pieces(output) == (wanted or [{}])


BOXES = """(float[N,16] x) => (float[N,6] y) {
    b = MatMul(x, wide)  far = Add(b, anchors)  s = MatMul(x, narrow)  y = Concat<axis=1>(far, s) }"""


@pytest.fixture
def detector(build: Any) -> Any:
    """Large boxes beside small scores, the boxes around anchors that are the same for every sample."""
    rng = np.random.default_rng(0)
    wide, narrow = rng.standard_normal((16, 4)).astype(np.float32), rng.standard_normal((16, 2)).astype(np.float32)

    def made(scores: float = 1.0, boxes: float = 1.0) -> Any:
        anchors = np.full(4, 1000, np.float32)
        return build(BOXES, wide=10 * boxes * wide, anchors=anchors, narrow=np.float32(1e-3 * scores) * narrow)

    return made


def sqnr(detector: Any, make_context: Any, **changes: float) -> float:
    model = detector()
    context = make_context(model, "onnxruntime", 32)
    judge = output_judge(model.graph, context.need_calibration("test"), context.workdir)
    return decibels(judge.noise(detector(**changes).graph))


def test_an_error_of_small_scores_shows_beside_large_boxes(detector: Any, make_context: Any) -> None:
    # Scores that are wrong by a tenth are an error of 20 dB; two pieces, of which one is exact, halve it.
    assert sqnr(detector, make_context, scores=1.1) == pytest.approx(20 + 3, abs=0.5)


def test_what_is_the_same_for_every_sample_is_no_signal(detector: Any, make_context: Any) -> None:
    assert sqnr(detector, make_context, boxes=1.1) == pytest.approx(20 + 3, abs=0.5)


def test_few_samples_are_judged_by_their_power(detector: Any, make_context: Any) -> None:
    model = detector()
    context = make_context(model, "onnxruntime", 32)
    whole = output_judge(model.graph, context.need_calibration("test"), context.workdir)
    few = decibels(whole.thinned(4).noise(detector(boxes=1.1).graph))
    assert few > decibels(whole.noise(detector(boxes=1.1).graph)) + 10
    assert len(whole.thinned(4).feeds) == 4


def test_an_output_that_never_differs_is_judged_all_the_same(build: Any, make_context: Any) -> None:
    def made(value: float) -> Any:
        return build("(float[N,4] x) => (float[N,4] y) { z = Mul(x, nought)  y = Add(z, c) }",
                     nought=np.float32(0), c=np.float32(value))  # fmt: skip

    context = make_context(made(1.0), "onnxruntime", 16)
    judge = output_judge(made(1.0).graph, context.need_calibration("test"), context.workdir)
    assert judge.noise(made(1.0).graph) == 0
    assert decibels(judge.noise(made(1.01).graph)) == pytest.approx(0, abs=0.5)  # 40 dB of its power


def test_nan_is_no_end_of_noise(build: Any, make_context: Any, tmp_path: Path) -> None:
    def made(value: float) -> Any:
        return build("(float[N,4] x) => (float[N,4] y) { y = Mul(x, c) }", c=np.float32(value))

    context = make_context(made(1.0), "onnxruntime", 16)
    judge = output_judge(made(1.0).graph, context.need_calibration("test"), tmp_path)
    assert judge.noise(made(np.nan).graph) == np.inf
