"""What the tests of ``check`` share: findings of a model by rule, and the files that a model is checked from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infopt.checks.report import Finding
    from infopt.model import Model

    class Find(Protocol):
        """Makes the findings of the rules; see :func:`find`."""

        def __call__(self, model: Model, *targets: str) -> dict[str, list[Finding]]: ...


ALL = ("onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")


@pytest.fixture(scope="session")
def find() -> Find:
    """What the rules find in a model, by rule; no runtime is asked."""
    from infopt import registry
    from infopt.checks.run import findings
    from infopt.checks.subject import Subject

    def found(model: Model, *targets: str) -> dict[str, list[Finding]]:
        chosen = tuple(registry.target(name) for name in targets or ALL)
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
