"""The public surface of the package."""

import importlib
import inspect
import subprocess
import sys
import types
from dataclasses import MISSING, fields

import rmbg
from rmbg import plugins
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


#: Names of the interface of plug-ins by its version. A new name is a new entry; the others stay as they are.
PLUGIN_NAMES = {
    "1.0": "CancelledError Cost Cutout EncodedPhoto Execution ModelError NoSubjectError NotReadyError Option OptionError "
    "PaidCall Photo PhotoError Plan Price Provider ProviderInfo ProviderResult Remote Request RequestContext Response "
    "RmbgError ServiceError Settings Status Timer VERSION download http_failure local_cutout on_device",
    "1.1": "Jobs Service picture",
}


def test_names_of_the_interface_of_plugins():
    public = {name for name in vars(plugins) if not name.startswith("_")}
    assert public == set(plugins.__all__) == {name for names in PLUGIN_NAMES.values() for name in names.split()}
    assert list(PLUGIN_NAMES)[-1] == plugins.VERSION


def test_members_that_plugins_override_and_use():
    """Added members have a default; none is removed or renamed within a first number of the version."""
    overridden = {"info", "composite", "small_network", "resumes", "status", "executions", "warm_up", "cut"}
    assert {name for name in vars(plugins.Provider) if not name.startswith("_")} | {"info"} >= overridden
    assert set(inspect.signature(plugins.Provider.cut).parameters) == {"self", "photo", "options", "context"}
    required = {f.name for f in fields(plugins.ProviderInfo) if f.default is MISSING and f.default_factory is MISSING}
    assert required == {"id", "title", "kind", "model", "license", "license_url", "pixels"}
    assert [f.name for f in fields(plugins.RequestContext)][:4] == ["settings", "key", "progress", "cancelled"]
    parameters = ["provider", "photo", "matte", "timer", "context", "plan", "notes", "confidence"]
    assert list(inspect.signature(plugins.local_cutout).parameters)[:8] == parameters


def _names(error: type) -> set[str]:
    return {name for sub in error.__subclasses__() for name in (sub.__name__, *_names(sub)) if sub.__module__ == "rmbg.errors"}
