"""The page. No module outside of this package imports Gradio, so its import is prepared here.

For each class of a component, Gradio parses the source and writes a type stub beside it, into site-packages or into the folder
of an app. Only editors read it, and it takes two fifths of the time of the import. The function that writes it is replaced
when its module is imported. Tested, with all other changes of Gradio, by ``tests/ui/test_gradio_overrides.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _WithoutStubs(MetaPathFinder):
    """Finds the module that writes the stubs, once."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "gradio.component_meta":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _skip_stubs(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _skip_stubs(module: ModuleType) -> None:
    module.create_or_modify_pyi = lambda *arguments: None  # type: ignore[attr-defined]


if "gradio.component_meta" in sys.modules:
    _skip_stubs(sys.modules["gradio.component_meta"])
else:
    sys.meta_path.insert(0, _WithoutStubs())
