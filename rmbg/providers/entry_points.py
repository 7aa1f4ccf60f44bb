"""Plug-ins: providers of other packages, found by the entry points of the group ``rmbg.providers``.

The name of an entry point is the id of its provider. A plug-in runs with all rights of the process.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from rmbg.errors import printable, reason
from rmbg.providers.base import Provider, ProviderInfo, Status, describe
from rmbg.providers.remote import Remote
from rmbg.runtime.messages import NOT_SET_UP, OwnerMessage
from rmbg.settings import Settings

GROUP = "rmbg.providers"

#: Ids that are parts of file names, of lists that are separated by commas or plus signs, and of element ids of the page.
ID = re.compile("[a-z0-9][a-z0-9._-]{0,39}")

#: Ids of `find` that are in no registry.
RESERVED = ("auto",)


class PluginError(Exception):
    """The provider of a plug-in cannot be used; the message ends a sentence that names the plug-in."""


def load(settings: Settings, registry: Mapping[str, Provider]) -> tuple[dict[str, Provider], tuple[str, ...]]:
    """Load the installed plug-ins, of which ``RMBG_PLUGINS`` may select some.

    Parameters
    ----------
    settings : Settings
    registry : mapping of id to Provider
        Providers that exist already; a plug-in does not replace them.

    Returns
    -------
    loaded : dict of str to Provider
        By id, in alphabetical order.
    failures : tuple of str
        A sentence for each plug-in that could not be loaded, or is not installed.
    """
    if settings.plugins == ():
        return {}, ()
    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    loaded: dict[str, Provider] = {}
    failures = []
    for point in found:
        if settings.plugins is not None and point.name not in settings.plugins:
            continue
        try:
            loaded[point.name] = _provider(point, {**registry, **loaded}, settings)
        except PluginError as error:
            package = f" of {point.dist.name} {point.dist.version}" if point.dist is not None else ""
            text = (
                f"The plug-in {printable(point.name, 60)!r}{package} is not loaded: {error}. Update or uninstall the package."
            )
            failures.append(text)
    for name in sorted(set(settings.plugins or ()) - {point.name for point in found}):
        text = f"RMBG_PLUGINS contains {printable(name, 60)!r}, which no installed package provides. Install it or correct it."
        failures.append(OwnerMessage(text, NOT_SET_UP))
    return loaded, tuple(failures)


def _provider(point: EntryPoint, registry: Mapping[str, Provider], settings: Settings) -> Provider:
    """Import the provider of an entry point, and check that all commands and the page can show it.

    Raises
    ------
    PluginError
        If the import or the check fails, exits or prints; standard output belongs to the results of commands.
    """
    if not ID.fullmatch(point.name):
        raise PluginError("its name is not an id of lowercase letters, digits, dots, hyphens and underscores")
    if point.name in registry or point.name in RESERVED:
        raise PluginError("a provider with this id exists already")
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            provider = point.load()
            _check(provider, point.name, settings)
    except PluginError:
        raise
    except SystemExit:
        raise PluginError("it ends the process when it is imported") from None
    except Exception as error:  # of any kind, as the code is not ours
        raise PluginError(f"it raises {type(error).__name__} ({reason(error)})") from None
    if printed.getvalue():
        raise PluginError(f"it prints {printable(printed.getvalue(), 60)!r} when it is imported")
    return provider


def _check(provider: object, name: str, settings: Settings) -> None:
    if not isinstance(provider, Provider):
        raise PluginError(f"its {type(provider).__name__} is not an instance of a subclass of rmbg.plugins.Provider")
    info = provider.info
    if not isinstance(info, ProviderInfo):
        raise PluginError("its info is not a ProviderInfo")
    if info.id != name:
        raise PluginError(f"its provider has the id {printable(str(info.id), 60)!r}, which differs from the entry point")
    if info.kind not in ("local", "remote"):
        raise PluginError(f"its kind is {printable(str(info.kind), 60)!r}; it must be 'local' or 'remote'")
    if info.kind == "remote" and not (isinstance(provider, Remote) and info.price is not None):
        raise PluginError("a remote provider must have a price and be a subclass of rmbg.plugins.Remote, which records it")
    info.parse_options({})
    status = provider.status(settings)
    if not isinstance(status, Status):
        raise PluginError("its status is not a Status")
    json.dumps(describe(info, status, settings))
    pickle.dumps(provider)  # for the processes of a batch
