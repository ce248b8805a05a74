"""Benchmarks: run on demand with ``python -m pytest tests/benchmarks -s``; they print what they measure.

``INFOPT_ZOO`` names the folder of models, ``INFOPT_PEERS`` the folder of the peers' scripts, ``INFOPT_PEER_PYTHON`` an
interpreter with ONNX Runtime, OpenVINO and NNCF, ``INFOPT_MODELOPT_PYTHON`` one with ModelOpt, and
``INFOPT_PEER_ARTIFACTS`` a folder that keeps what the peers made for the next run. What is missing skips with its
reason.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks.zoo import MODELS, ROOT, PeerTools, ZooModel


def _folder(variable: str, default: str) -> Path:
    path = Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not path.is_dir():
        pytest.skip(f"{path} does not exist: set {variable}")
    return path


@pytest.fixture(scope="session")
def zoo() -> Path:
    return _folder("INFOPT_ZOO", "zoo")


@pytest.fixture(scope="session", params=MODELS)
def model(request: pytest.FixtureRequest, zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> ZooModel:
    """Each model of the zoo; parametrize it indirectly for some of them."""
    if not (zoo / request.param).is_dir():
        pytest.skip(f"{zoo} has no {request.param}")
    return ZooModel(zoo / request.param, tmp_path_factory.mktemp("preprocess"))


@pytest.fixture(scope="session")
def peers(tmp_path_factory: pytest.TempPathFactory) -> PeerTools:
    python = os.environ.get("INFOPT_PEER_PYTHON")
    if not python:
        pytest.skip("INFOPT_PEER_PYTHON is not set: it names an interpreter with onnxruntime, openvino, nncf and torch")
    kept = os.environ.get("INFOPT_PEER_ARTIFACTS")
    return PeerTools(
        _folder("INFOPT_PEERS", "peers") / "make.py",
        python,
        os.environ.get("INFOPT_MODELOPT_PYTHON"),
        Path(kept) if kept else tmp_path_factory.mktemp("peers"),
    )
