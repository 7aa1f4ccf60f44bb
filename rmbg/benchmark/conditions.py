"""Conditions of a result: everything that determines it. Results of other conditions are never part of a report."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rmbg.benchmark import machine
from rmbg.providers import Provider
from rmbg.settings import Settings
from rmbg.version import __version__

#: Packages whose code determines the matte and the seconds of a local provider.
SOURCES = ("images", "inference", "matting", "networks", "providers")


@dataclass(frozen=True)
class Conditions:
    """Conditions of the results of one provider.

    Attributes
    ----------
    key : str
        Hash of `facts`. Results are stored by it.
    machine : str
        Hash of the hardware, the versions of packages and the price of an hour. Seconds are valid for one machine.
    facts : dict of str to Any
        Provider, options, model revision, engine, device, precision and program version; for local providers also the machine.
    """

    key: str
    machine: str
    facts: dict[str, Any]


def conditions(provider: Provider, settings: Settings) -> Conditions:
    """Return the conditions under which `provider` runs with these settings.

    Results of a service do not depend on the machine, and on the version of the program only instead of a checksum of its code,
    as another call would be charged. Their seconds are valid for one machine.

    Raises
    ------
    NotReadyError
        If the settings name an engine or a device that is not available.
    """
    remote = provider.info.kind == "remote"
    here = {**machine.describe(), "Price of an hour": str(settings.hourly_usd)}
    facts = {
        "provider": provider.info.id,
        "options": provider.info.parse_options({}),
        "models": [asdict(execution) for execution in provider.executions(settings)],
        "version": __version__ if remote else f"{__version__}+{source_checksum()}",
        **({} if remote else {"machine": here}),
    }
    return Conditions(_hash(facts), _hash(here), facts)


@functools.cache
def source_checksum() -> str:
    """Checksum of the modules in `SOURCES`."""
    root = Path(__file__).parents[1]
    paths = sorted(path for name in SOURCES for path in (root / name).rglob("*.py"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
