"""Registry of all providers. README.md in this folder describes how to add one."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from rmbg.errors import NotReadyError, OptionError, alternatives, printable
from rmbg.inference.catalog import MODELS
from rmbg.providers import entry_points
from rmbg.providers.base import Option, Provider, ProviderInfo, RequestContext, Status
from rmbg.providers.builtin import Builtin
from rmbg.providers.cascade import Cascade
from rmbg.providers.fal import Fal
from rmbg.providers.gigarouter import Gigarouter
from rmbg.providers.huggingface import HuggingFace
from rmbg.providers.local import LocalNetwork
from rmbg.providers.removebg import RemoveBg
from rmbg.providers.runware import RUNWARE_REMBG_1_4, RUNWARE_RMBG_2
from rmbg.providers.sam2 import SAM2
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
]

#: The providers of this package, followed by those of plug-ins after a call of `load_plugins`.
PROVIDERS: dict[str, Provider] = {
    "builtin": Builtin(),
    **{model.id: SAM2 if model is SAM2.model else LocalNetwork(model) for model in MODELS.values()},
    "fal-rmbg-2.0": Fal(),
    "runware-rmbg-2.0": RUNWARE_RMBG_2,
    "runware-rembg-1.4": RUNWARE_REMBG_1_4,
    "removebg": RemoveBg(),
    "hf-rmbg-2.0": HuggingFace(),
    "gigarouter-rmbg-1.4": Gigarouter(),
}
CASCADE = Cascade(PROVIDERS)
PROVIDERS[CASCADE.info.id] = CASCADE

#: Free providers in order of quality; ``auto`` selects the first that is ready.
AUTO = ("rmbg-2.0", "birefnet", "rmbg-1.4", "birefnet-lite", "builtin")

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
    return [provider.info for provider in PROVIDERS.values()]


def find(name: str, settings: Settings | None = None, options: Mapping[str, Any] | None = None) -> Provider:
    """Return the provider with the id `name`; ``auto`` selects the best free one that is ready.

    ``cascade:A,B`` is a cascade of these providers; the option ``steps`` of `options` selects them as well.

    Raises
    ------
    OptionError
        If the id is unknown; the message names similar ones.
    """
    if name == "auto":
        settings = settings or Settings.from_environ()
        return next(PROVIDERS[i] for i in AUTO if PROVIDERS[i].status(settings).state == "ready")
    cascade = name.partition(":")[0] == CASCADE.info.id
    ids = re.split("[:,+]", f"{name},{(options or {}).get('steps', '')}") if cascade else [name]
    failures = load_plugins() if any(id.strip() not in PROVIDERS for id in ids if id.strip()) else ()
    if cascade:
        return CASCADE.select(name, options or {})
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


def file_name(provider: str) -> str:
    """Return the id of a provider as a part of a file name; ids of cascades contain a colon."""
    return provider.replace(":", "-")
