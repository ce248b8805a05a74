"""Benchmarks: run on demand with ``python -m pytest tests/benchmarks -s``; they print what they measure.

``INFOPT_ZOO`` names the folder of models, ``INFOPT_PEERS`` the folder of the peers' scripts and ``INFOPT_PEER_PYTHON``
an interpreter with NNCF installed. What is missing skips with its reason.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _folder(variable: str, default: str) -> Path:
    path = Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not path.is_dir():
        pytest.skip(f"{path} does not exist: set {variable}")
    return path


@pytest.fixture
def zoo() -> Path:
    return _folder("INFOPT_ZOO", "zoo")


@pytest.fixture
def peers() -> Path:
    return _folder("INFOPT_PEERS", "peers")


@pytest.fixture
def peer_python() -> str:
    python = os.environ.get("INFOPT_PEER_PYTHON")
    if not python:
        pytest.skip("INFOPT_PEER_PYTHON is not set: it names an interpreter with nncf, openvino and torch")
    return python
