"""What the tests of ``check`` share: findings of a model by rule, and the files that a model is checked from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from infopt.checks.report import Finding
    from infopt.cpu import Isa
    from infopt.model import Model
    from infopt.shapes import ShapeRange
    from infopt.target import Target

    class Find(Protocol):
        """Makes the findings of the rules; see :func:`find`."""

        def __call__(self, model: Model, *targets: str, isa: Isa = "avx2") -> dict[str, list[Finding]]: ...


ALL = ("onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")


@pytest.fixture(scope="session")
def find() -> Find:
    """What the rules find in a model, by rule; no runtime is asked. The default processor is an x86 without VNNI."""
    from infopt.checks.run import findings, targets_named
    from infopt.checks.subject import Subject
    from infopt.target import ByIsa

    def found(model: Model, *targets: str, isa: Isa = "avx2") -> dict[str, list[Finding]]:
        chosen = targets_named(targets or ALL)
        chosen = tuple(each.for_isa(isa) if isinstance(each, ByIsa) else each for each in chosen)
        result: dict[str, list[Finding]] = {}
        for each in findings(Subject(model, chosen)):
            result.setdefault(each.rule, []).append(each)
        return result

    return found


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    """Write a model to a file."""
    from infopt.model import save

    def write(model: Model, name: str = "model.onnx") -> Path:
        save(model.graph, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Ask the runtimes in this process: the same questions, without the time that an interpreter takes to start."""
    from infopt.checks.ask import Answer, answer_of, request_of
    from infopt.checks.child import interrogate

    def ask(target: Target, model: Path, shapes: Sequence[ShapeRange], kernels: bool) -> Answer:
        missing = target.available()
        if missing:
            return Answer(reason=missing)
        told: dict[str, Any] = {}
        work = tmp_path_factory.mktemp("asked")
        interrogate(target, request_of(target, model, shapes, kernels), work, lambda **news: told.update(news))
        return answer_of(told)

    monkeypatch.setattr("infopt.checks.run.ask", ask)
