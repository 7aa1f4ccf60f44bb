"""Registry of all providers. README.md in this folder describes how to add one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rmbg.errors import NotReadyError, OptionError, alternatives, printable
from rmbg.inference.catalog import MODELS
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

__all__ = ["AUTO", "PROVIDERS", "Option", "Provider", "ProviderInfo", "RequestContext", "Status", "find", "list_providers"]

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


def list_providers() -> list[ProviderInfo]:
    """Return the `ProviderInfo` of every provider in registry order."""
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
    if name.partition(":")[0] == CASCADE.info.id:
        return CASCADE.select(name, options or {})
    if name not in PROVIDERS:
        known = alternatives(name, ["auto", *PROVIDERS])
        raise OptionError(f"There is no provider {printable(name, 60)!r}; choose from {known}. rmbg providers lists all.")
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
