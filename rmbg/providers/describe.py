"""Facts of a provider as JSON, for ``rmbg providers --json`` and the API."""

from __future__ import annotations

from typing import Any

from rmbg.billing.quote import quote
from rmbg.providers.base import ProviderInfo, Status
from rmbg.settings import Settings


def describe(info: ProviderInfo, status: Status, settings: Settings) -> dict[str, Any]:
    """Return a provider as a JSON object."""
    usd = quote(info, {}, settings).cost.usd
    return {
        "id": info.id,
        "title": info.title,
        "kind": info.kind,
        "model": info.model,
        "status": {"state": status.state, "text": status.text},
        "price": {
            "usd": None if info.kind == "local" or usd is None else float(usd),
            "basis": info.price_basis,
            "seen": info.price_seen or None,
        },
        "licence": info.license,
        "licence_url": info.license_url,
        "pixels": info.pixels,
        "input_size": info.input_size,
        "supports": list(info.supports),
        "options": [
            {
                "name": option.name,
                "kind": option.kind,
                "default": option.default,
                "help": option.help,
                "minimum": option.minimum,
                "maximum": option.maximum,
                "choices": list(option.choices),
            }
            for option in info.options
        ],
    }
