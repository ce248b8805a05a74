"""Who may import whom; read from the sources, so that imports inside functions count too."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

from infopt_passes import PASSES

ROOT = Path(__file__).parents[1]
SOURCES = {"infopt": ROOT / "optimizer" / "infopt", "infopt_passes": ROOT / "passes" / "infopt_passes"}
LIGHT = ["options", "errors", "recipe", "budget", "flags", "verbs", "registry", "passes", "ui", "target"]
HEAVY = frozenset("numpy scipy onnx onnx_ir onnxscript onnxruntime openvino PIL rich jinja2 torch tensorrt".split())


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        name: Its full name.
        top: Whether it is imported when the importing module is.
    """

    name: str
    top: bool


def modules(package: str) -> dict[str, Path]:
    """Module name to file."""
    folder = SOURCES[package]
    named = {}
    for file in sorted(folder.rglob("*.py")):
        parts = [package, *file.relative_to(folder).with_suffix("").parts]
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return named


def imports(file: Path) -> list[Import]:
    """What a source imports; imports for type checking alone are left out."""
    return _walk(ast.parse(file.read_text(encoding="utf-8")), top=True)


def _walk(node: ast.AST, top: bool) -> list[Import]:
    found: list[Import] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            found += [Import(alias.name, top) for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative imports hide the layer"
            # `from package import module` imports the module too.
            found += [Import(str(child.module), top)]
            found += [Import(f"{child.module}.{alias.name}", top) for alias in child.names]
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            found += [each for other in child.orelse for each in _walk(other, top)]
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            found += _walk(child, top and not inside)
    return found


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """A cycle of a directed graph, or an empty list."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        found = next((c for following in sorted(graph[node]) if (c := visit(following, [*path, node]))), [])
        done.add(node)
        return found

    return next((c for node in graph if (c := visit(node, []))), [])


def top_level(package: str) -> dict[str, set[str]]:
    """Module to the modules of the same package that it imports when it is imported."""
    known = modules(package)
    return {name: {i.name for i in imports(file) if i.top and i.name in known} - {name} for name, file in known.items()}


def test_the_scan_sees_both_packages() -> None:
    assert "infopt.cli.app" in modules("infopt")
    assert "infopt_passes.quantize.plan" in modules("infopt_passes")


def test_the_compiler_never_imports_a_pass() -> None:
    wrong = [
        f"{name} imports {found.name}"
        for name, file in modules("infopt").items()
        for found in imports(file)
        if found.name.split(".")[0] == "infopt_passes"
    ]
    assert wrong == []


def test_passes_know_no_command_line_no_report_and_no_data_reader() -> None:
    outer = ("infopt.cli", "infopt.report", "infopt.views", "infopt.pipeline", "infopt.verbs", "infopt.readers")
    wrong = [
        f"{name} imports {found.name}"
        for name, file in modules("infopt_passes").items()
        for found in imports(file)
        if found.name.startswith(outer)
    ]
    assert wrong == []


def test_passes_do_not_import_each_other() -> None:
    kinds = {place.partition(":")[0].split(".")[1] for place in PASSES.values()}
    for name, file in modules("infopt_passes").items():
        own = name.split(".")[1] if name.count(".") else ""
        for found in imports(file):
            parts = found.name.split(".")
            other = parts[1] if parts[0] == "infopt_passes" and len(parts) > 1 else own
            assert other == own or other not in kinds, f"{name} imports {found.name}"


@pytest.mark.parametrize("package", SOURCES)
def test_modules_do_not_import_each_other_in_a_circle(package: str) -> None:
    assert cycle(top_level(package)) == []


def test_a_circle_would_be_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def closure(name: str) -> dict[str, set[str]]:
    """Every infopt module that importing one imports, with what each imports from outside."""
    known, seen, todo = modules("infopt"), dict[str, set[str]](), [name]
    while todo:
        module = todo.pop()
        found = [i.name for i in imports(known[module]) if i.top]
        seen[module] = {each.split(".")[0] for each in found}
        todo += [each for each in found if each in known and each not in seen]
    return seen


CLI = [name for name in modules("infopt") if f"{name}.".startswith("infopt.cli.")]


@pytest.mark.parametrize("module", [*(f"infopt.{name}" for name in LIGHT), *CLI])
def test_light_modules_import_nothing_heavy_before_they_are_used(module: str) -> None:
    heavy = {f"{name} imports {bad}" for name, outside in closure(module).items() for bad in outside & HEAVY}
    assert heavy == set()


@pytest.mark.parametrize(
    "module", [name for name in modules("infopt_passes") if name.count(".") < 2 and name != "infopt_passes.quiet"]
)
def test_a_passs_options_import_nothing_heavy(module: str) -> None:
    found = {i.name for i in imports(modules("infopt_passes")[module]) if i.top}
    assert {name.split(".")[0] for name in found} & HEAVY == set()
    assert not [name for name in found if name.startswith("infopt_passes.")]
