"""Registry of all providers. README.md in this folder describes how to add one."""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rmbg.errors import NotReadyError, OptionError, alternatives, printable
from rmbg.inference.catalog import MODELS, OWN
from rmbg.providers import entry_points
from rmbg.providers.base import Option, Provider, ProviderInfo, RequestContext, Status, never_cancelled, no_progress
from rmbg.providers.builtin import Builtin
from rmbg.providers.cascade import Cascade
from rmbg.providers.fal import FAL
from rmbg.providers.huggingface import HuggingFace
from rmbg.providers.local import BoxNetwork, LocalNetwork
from rmbg.providers.runware import RUNWARE
from rmbg.providers.sam import SAM2, SegmentAnything
from rmbg.providers.services import SERVICES
from rmbg.runtime.messages import Message
from rmbg.settings import Settings

__all__ = [
    "AUTO",
    "PROVIDERS",
    "Option",
    "Provider",
    "ProviderInfo",
    "RequestContext",
    "Status",
    "find",
    "list_providers",
    "load_plugins",
    "open_model",
]

#: The providers of this package, followed by those of plug-ins after a call of `load_plugins`.
PROVIDERS: dict[str, Provider] = {
    "builtin": Builtin(),
    **{model.id: LocalNetwork(model) for model in MODELS.values()},
    # Those that take a prompt keep their places among the networks.
    "sam2": SAM2,
    "sam": SegmentAnything(MODELS["sam"]),
    "finegrain-box": BoxNetwork(MODELS["finegrain-box"]),
    **{provider.info.id: provider for provider in (*FAL, *RUNWARE, *SERVICES, HuggingFace())},
}

#: Free providers in order of quality; ``auto`` selects the first that is ready.
AUTO = ("rmbg-2.0", "birefnet", "rmbg-1.4", "birefnet-lite", "builtin")

CASCADE = Cascade(PROVIDERS, ranking=AUTO)
PROVIDERS[CASCADE.info.id] = CASCADE

#: Ids of the providers of this package; the others in `PROVIDERS` are own models and plug-ins.
PACKAGED = frozenset(PROVIDERS)

#: Models that this process has opened with `open_model`, by id. The page does not list them, but finds them.
OPENED: dict[str, Provider] = {}

#: Held while plug-ins are loaded. A plug-in that is being imported may call `find` or `list_providers` in the same thread.
_plugins_lock = threading.RLock()

_plugin_failures: tuple[str, ...] | None = None


def load_plugins() -> tuple[str, ...]:
    """Add the providers of plug-ins to `PROVIDERS`, once a process, and return a sentence for each that cannot be loaded.

    `find` calls it for ids that this package does not have, so that the other ones are available without the time of a search
    for plug-ins. Everything that lists the providers calls it first.
    """
    global _plugin_failures
    with _plugins_lock:
        if _plugin_failures is None:
            settings = Settings.from_environ()
            _plugin_failures = ()
            loaded, _plugin_failures = entry_points.load(settings, PROVIDERS)
            PROVIDERS.update(loaded)
        return _plugin_failures


def list_providers() -> list[ProviderInfo]:
    """Return the `ProviderInfo` of every provider in registry order, those of plug-ins last."""
    load_plugins()
    add_own_models(Settings.from_environ())
    return [provider.info for provider in PROVIDERS.values()]


def find(name: str, settings: Settings | None = None, options: Mapping[str, Any] | None = None) -> Provider:
    """Return the provider with the id `name`; ``auto`` selects the best free one that is ready.

    ``cascade:A,B`` is a cascade of these providers; the option ``steps`` of `options` selects them as well. ``cascade`` has the
    steps that are the cheapest ones with these settings.

    Raises
    ------
    OptionError
        If the id is unknown; the message names similar ones.
    """
    if OWN in name or options:  # options may name the steps of a cascade
        add_own_models(settings or Settings.from_environ())
    if name in OPENED:
        return OPENED[name]
    if name == "auto":
        settings = settings or Settings.from_environ()
        return next(PROVIDERS[i] for i in AUTO if PROVIDERS[i].status(settings).state == "ready")
    cascade = name.partition(":")[0] == CASCADE.info.id
    ids = re.split("[:,+]", f"{name},{(options or {}).get('steps', '')}") if cascade else [name]
    failures = load_plugins() if any(id.strip() not in PROVIDERS for id in ids if id.strip()) else ()
    if cascade:
        return CASCADE.select(name, options or {}, settings or Settings.from_environ())
    if name not in PROVIDERS:
        known = alternatives(name, ["auto", *PROVIDERS])
        text = f"There is no provider {printable(name, 60)!r}; choose from {known}. rmbg providers lists all."
        raise OptionError(Message(text, owner="".join(f" {failure}" for failure in failures)))
    return PROVIDERS[name]


def ready_providers(ids: Sequence[str], settings: Settings, keys: Mapping[str, str] | None = None) -> list[Provider]:
    """Find providers by id, without duplicates.

    Raises
    ------
    NotReadyError
        If one of them cannot run.
    """
    providers = list({(p := find(name, settings)).info.id: p for name in ids}.values())
    for provider in providers:
        status = provider.status(settings)
        if not status.usable and not (keys or {}).get(provider.info.id):
            raise NotReadyError(Message("{title} is not ready: {text}.", title=provider.info.title, text=status.text))
    return providers


def open_model(
    source: str | os.PathLike[str],
    options: Mapping[str, Any] | None = None,
    *,
    progress: Callable[[float | None, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    settings: Settings | None = None,
) -> ProviderInfo:
    """Open a model of your own, and return the `ProviderInfo` of its provider.

    The id of the provider, ``model:NAME``, is valid in this process from then on.

    Parameters
    ----------
    source : str or path
        ``FILE.safetensors`` of an architecture of this package, ``FILE.onnx`` of a segmentation network, a folder with one of
        them, or the id of a repository on the Hugging Face Hub.
    options : mapping of str to value, optional
        ``size``, ``mean``, ``std``, ``resampling``, ``minmax_normalize``, ``patch_order``, ``force``. They have precedence over
        the files beside the weights. What is left open is chosen by the score on the examples.
    progress : callable (fraction or None, text), optional
    cancelled : callable () -> bool, optional
        Called between steps; CancelledError is raised once it returns True.
    settings : Settings, optional
        By default those of the environment.

    Raises
    ------
    RmbgError
        If it is not such a model, or it scores badly on the examples in all ways and is not forced.

    Examples
    --------
    >>> from rmbg import open_model, remove_background
    >>> cutout = remove_background("photo.jpg", open_model("network.onnx").id)  # doctest: +SKIP
    """
    known = next((model for model in MODELS.values() if model.hub == str(source)), None)
    if known is not None and not options:
        return PROVIDERS[known.id].info
    from rmbg.providers import own  # deferred: most programs have no own models

    context = RequestContext(
        settings or Settings.from_environ(), progress=progress or no_progress, cancelled=cancelled or never_cancelled
    )
    provider = own.opened(str(source), options or {}, context)
    OPENED[provider.info.id] = provider
    return provider.info


def add_own_models(settings: Settings) -> None:
    """Add the models in RMBG_MODELS to the registry.

    A folder is read once, as the page is built from the registry. Raises OptionError if it cannot be read.
    """
    if settings.models is not None:
        _add_folder(settings.models)


@functools.cache
def _add_folder(folder: Path) -> None:
    from rmbg.providers import own  # deferred: most programs have no own models

    PROVIDERS.update({provider.info.id: provider for provider in own.in_folder(folder)})


def file_name(provider: str) -> str:
    """Return the id of a provider as a part of a file name; ids of cascades contain a colon."""
    return provider.replace(":", "-")
