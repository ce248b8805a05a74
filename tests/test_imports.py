"""What starting the command line really loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "numpy scipy onnx onnx_ir onnxscript onnxruntime openvino PIL rich jinja2 torch tensorrt tensorrt_rtx sklearn sympy"
).split()

LOADED = "print('loaded:', *sorted({name.split('.')[0] for name in sys.modules}))"


def loaded(code: str) -> set[str]:
    """Top-level modules of a fresh interpreter that has run some code."""
    result = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{LOADED}"], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split("loaded: ")[1].split())


def command(*arguments: str) -> str:
    """Code that runs a command and catches its exit."""
    return (
        f"sys.argv = {['infopt', *arguments]!r}\n"
        "from infopt.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code"
    )


@pytest.mark.parametrize(
    "code",
    [
        "import infopt",
        "import infopt.cli.app",
        "import infopt.verbs",
        command("--help"),
        command("--version"),
        command("quantize", "--help"),
        command("passes"),
    ],
    ids=["infopt", "app", "verbs", "--help", "--version", "quantize --help", "passes"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code: str) -> None:
    # Typer prints help with Rich; nothing else may wait for it.
    allowed = {"rich"} if "--help" in code else set()
    assert loaded(code).intersection(HEAVY) <= allowed


def test_what_is_loaded_would_be_seen() -> None:
    assert "numpy" in loaded("import numpy")


def test_symbolic_algebra_is_loaded_when_a_dimension_is_computed_with() -> None:
    code = "import infopt, onnx_ir, infopt_passes.simplify.fold\nassert 'sympy.core' not in sys.modules\n"
    code += "print(onnx_ir.SymbolicDim('N') + 1)\nassert 'sympy.core' in sys.modules"
    assert "sympy" in loaded(code)


def test_what_is_put_off_for_a_library_is_not_put_off_for_others() -> None:
    assert "sympy" in loaded("import infopt, sympy\nassert 'sympy.core' in sys.modules")
