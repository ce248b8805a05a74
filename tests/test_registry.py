from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, is_dataclass
from typing import Any

import pytest

from infopt import registry
from infopt.errors import OptionError, TargetUnavailable
from infopt.passes import Pass
from infopt.target import Table

TARGET_FUNCTIONS = "available runnable version device settings compile open build_command kernels".split()


@dataclass(frozen=True)
class Point:
    """An installed package's entry point."""

    content: dict[str, str]

    def load(self) -> dict[str, str]:
        return self.content


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the registry see these entry points instead of the installed ones."""

    def install(**groups: list[dict[str, str]]) -> None:
        def entry_points(group: str) -> list[Point]:
            return [Point(content) for content in groups.get(group.removeprefix("infopt."), [])]

        monkeypatch.setattr(registry, "entry_points", entry_points)

    return install


def test_infopts_own_passes_and_targets_come_through_entry_points() -> None:
    assert {"quantize", "simplify"} <= registry.names("passes").keys()
    assert {"onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"} <= registry.names("targets").keys()


@pytest.mark.parametrize("name", registry.names("passes"))
def test_a_pass_is_a_frozen_dataclass_of_its_name(name: str) -> None:
    cls = registry.pass_class(name)
    assert is_dataclass(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert isinstance(cls(), Pass)
    assert cls.name == name
    assert cls.__doc__


@pytest.mark.parametrize("name", registry.names("targets"))
def test_a_target_has_its_name_its_table_and_all_functions(name: str) -> None:
    target = registry.target(name)
    assert target.name == name
    assert target.runtime
    assert isinstance(target.table, Table)
    assert all(callable(getattr(target, function)) for function in TARGET_FUNCTIONS)


@pytest.mark.parametrize("name", registry.names("targets"))
def test_a_target_says_why_it_is_not_available(name: str) -> None:
    reason = registry.target(name).available()
    assert reason is None or reason.strip()


def test_a_third_partys_pass_is_found_through_the_same_door(installed: Any) -> None:
    installed(passes=[{"simplify": "infopt_passes.simplify:Simplify"}, {"mine": "collections:OrderedDict"}])
    from collections import OrderedDict

    assert registry.pass_class("mine") is OrderedDict
    assert list(registry.names("passes")) == ["simplify", "mine"]


def test_the_first_to_claim_a_name_has_it(installed: Any) -> None:
    installed(passes=[{"a": "collections:OrderedDict"}, {"a": "collections:Counter"}])
    assert registry.names("passes") == {"a": "collections:OrderedDict"}


def test_only_the_one_that_is_used_is_imported(installed: Any) -> None:
    installed(targets=[{"good": "infopt.targets.onnxruntime:onnxruntime", "bad": "no_such_module:thing"}])
    assert registry.target("good").name == "onnxruntime"
    with pytest.raises(ModuleNotFoundError):
        registry.target("bad")


def test_listing_names_imports_no_pass_and_no_target() -> None:
    code = (
        "import sys; from infopt import registry; registry.names('passes'); registry.names('targets');"
        "print([m for m in sys.modules if m.startswith(('infopt_passes.', 'infopt.targets.'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(("load", "kind"), [(registry.pass_class, "pass"), (registry.target, "target")])
def test_an_unknown_name_lists_the_known_ones(load: Any, kind: str) -> None:
    with pytest.raises(OptionError, match=f"unknown {kind} 'zzz'; known: "):
        load("zzz")


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(OptionError, match="did you mean 'openvino'"):
        registry.target("openvina")


def test_with_nothing_installed_the_error_says_so(installed: Any) -> None:
    installed()
    with pytest.raises(OptionError, match="known: none"):
        registry.target("onnxruntime")


@dataclass(frozen=True)
class Absent:
    """A target that is not there, or is."""

    reason: str | None
    name: str = "absent"

    def available(self) -> str | None:
        return self.reason


def test_a_target_that_is_required_but_absent_stops_with_its_own_reason() -> None:
    registry.require(Absent(None))  # type: ignore[arg-type]
    with pytest.raises(TargetUnavailable, match="target 'absent' is not available: no driver"):
        registry.require(Absent("no driver"))  # type: ignore[arg-type]
