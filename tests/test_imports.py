"""The import rules of the package: layers, no cycles. Imports inside functions and under TYPE_CHECKING count as well."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

#: From bottom to top. A module imports from its own entry and from layers below it, never from its neighbors or from above.
#: The longest matching prefix decides: ``rmbg.billing.cost`` lies below the rest of ``rmbg.billing``.
LAYERS = (
    {"rmbg.runtime.messages", "rmbg.version"},
    {"rmbg.billing.cost"},
    {"rmbg.errors"},
    {"rmbg.settings", "rmbg.runtime"},
    {"rmbg.images", "rmbg.networks", "rmbg.metrics", "rmbg.net", "rmbg.billing"},
    {"rmbg.matting", "rmbg.inference"},
    {"rmbg.render"},
    {"rmbg.cutout"},
    {"rmbg.providers"},
    {"rmbg.remove", "rmbg.replace", "rmbg.plugins"},
    {"rmbg.compat"},
    {"rmbg.compare", "rmbg.batch", "rmbg.benchmark"},
    {"rmbg.rest"},
    {"rmbg.ui"},
    {"rmbg.cli"},
    {"rmbg", "rmbg.__main__"},
)

#: The only module of the command line that imports the page.
STARTS_THE_PAGE = "rmbg.cli.serve"


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """The modules that each module imports."""
    graph = grimp.build_graph("rmbg", exclude_type_checking_imports=False, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def test_imports_point_down(imports):
    assert _upward(imports) == []


def test_there_are_no_cycles(imports):
    TopologicalSorter(imports).prepare()  # raises CycleError with the modules of a cycle


def test_only_serve_imports_the_page(imports):
    assert {m for m, found in imports.items() if m.startswith("rmbg.cli") and any(f.startswith("rmbg.ui") for f in found)} <= {
        STARTS_THE_PAGE
    }


def test_an_upward_import_is_found(imports):
    broken = {**imports, "rmbg.images.encode": imports["rmbg.images.encode"] | {"rmbg.render.backgrounds"}}
    assert _upward(broken) == ["rmbg.images.encode imports rmbg.render.backgrounds"]


def test_scipy_is_imported_in_functions():
    """The page and most commands start without it, which saves half a second."""
    root = Path(__file__).parents[1]
    found = {
        path.relative_to(root).as_posix()
        for path in (root / "rmbg").rglob("*.py")
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, (ast.Import, ast.ImportFrom)) and "scipy" in ast.unparse(statement)
    }
    assert found == set()


def _upward(imports: dict[str, set[str]]) -> list[str]:
    found = []
    for module, imported in sorted(imports.items()):
        for other in sorted(imported):
            (own, entry), (level, target) = _layer(module), _layer(other)
            if level > own or (level == own and entry != target):
                found.append(f"{module} imports {other}")
    return found


def _layer(module: str) -> tuple[int, str]:
    """The layer of a module, from 0 at the bottom, and the entry that it belongs to."""
    entries = [(len(entry), level, entry) for level, layer in enumerate(LAYERS) for entry in layer if _within(module, entry)]
    assert entries, f"{module} has no layer"
    _, level, entry = max(entries)
    return level, entry


def _within(module: str, entry: str) -> bool:
    return module == entry or (module.startswith(f"{entry}.") and entry != "rmbg")
