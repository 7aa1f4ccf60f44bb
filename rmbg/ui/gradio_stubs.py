"""The import of Gradio without its type stubs.

For each class of a component, Gradio parses the source and writes a type stub beside it, into site-packages. Only editors read
it, and it takes two fifths of the time of the import.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

MODULE, FUNCTION = "gradio.component_meta", "create_or_modify_pyi"


class _Finder(MetaPathFinder):
    """Finds the module that writes the stubs, and replaces the function that does it after the module is executed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if hasattr(module, FUNCTION):
                setattr(module, FUNCTION, lambda *arguments: None)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def skip_stubs() -> None:
    """Import Gradio without its type stubs from now on; no effect if it is imported already."""
    if MODULE not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
