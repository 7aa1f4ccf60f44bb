"""The public surface of the package."""

import importlib
import subprocess
import sys
import types

import rmbg
from rmbg.errors import RmbgError


def test_exactly_the_names_in_all_are_public():
    values = {name: getattr(rmbg, name) for name in dir(rmbg) if not name.startswith("_")}
    visible = {name for name, value in values.items() if not isinstance(value, types.ModuleType)}
    assert visible | {"__version__"} == set(rmbg.__all__)


def test_importing_the_package_loads_nothing_large():
    """The command line installs its signal handlers first."""
    code = "import sys, rmbg; sys.exit('numpy' in sys.modules or 'argparse' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_public_name_shadows_a_module():
    import rmbg.providers.fal as fal

    assert isinstance(rmbg.providers, types.ModuleType) and isinstance(fal, types.ModuleType)
    for name in rmbg.__all__:
        try:
            importlib.import_module(f"rmbg.{name}")
        except ModuleNotFoundError:
            continue
        raise AssertionError(f"rmbg.{name} is a module and a public name")


def test_every_error_is_public():
    errors = {name for name in rmbg.__all__ if name.endswith("Error")}
    assert errors == {"RmbgError", *(_names(RmbgError))}


def test_errors_are_drawn_at_the_top_of_their_module():
    from rmbg import errors

    for name in {"RmbgError", *_names(RmbgError)}:
        assert name in (errors.__doc__ or "")


def _names(error: type) -> set[str]:
    return {name for sub in error.__subclasses__() for name in (sub.__name__, *_names(sub)) if sub.__module__ == "rmbg.errors"}
