"""Shared parts of the tests of remote providers: loopback services, settings that select them, and a photo."""

from __future__ import annotations

import dataclasses
import io
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from rmbg import remove_background
from rmbg.cutout import Cutout
from rmbg.net import client
from rmbg.providers import PROVIDERS, remote, runware, services
from rmbg.providers import service as service_module
from rmbg.settings import Settings
from tests.servers.fal import FAL_FAULTS, Fal
from tests.servers.ordinary import ORDINARY_FAULTS, Bria, Photoroom, Recraft, Replicate, WithoutBg
from tests.servers.removebg import REMOVEBG_FAULTS, RemoveBg
from tests.servers.runware import RUNWARE_FAULTS, Runware
from tests.servers.service import KEY, Fault, Service


class Protocol(NamedTuple):
    """One way to send a photo to a service: provider id, options, loopback server, and faults of the protocol."""

    provider: str
    options: dict[str, Any]
    server: type[Service]
    faults: dict[str, Fault]


PROTOCOLS = {
    "fal queue": Protocol("fal-rmbg-2.0", {}, Fal, FAL_FAULTS),
    "fal direct": Protocol("fal-rmbg-2.0", {"mode": "direct"}, Fal, FAL_FAULTS),
    "Runware": Protocol("runware-rmbg-2.0", {}, Runware, RUNWARE_FAULTS),
    "Runware async": Protocol("runware-rembg-1.4", {"deliveryMethod": "async"}, Runware, RUNWARE_FAULTS),
    "remove.bg": Protocol("removebg", {}, RemoveBg, REMOVEBG_FAULTS),
    "Pixian": Protocol("pixian", {}, RemoveBg, REMOVEBG_FAULTS),
    "Photoroom": Protocol("photoroom", {}, Photoroom, ORDINARY_FAULTS),
    "Recraft": Protocol("recraft", {}, Recraft, ORDINARY_FAULTS),
    "withoutBG": Protocol("withoutbg", {}, WithoutBg, ORDINARY_FAULTS),
    "BRIA": Protocol("bria-rmbg-2.0", {}, Bria, ORDINARY_FAULTS),
    "BRIA job": Protocol("bria-rmbg-2.0", {"sync": False}, Bria, ORDINARY_FAULTS),
    "Replicate": Protocol("replicate-birefnet", {}, Replicate, ORDINARY_FAULTS),
}

#: Protocols that submit a job and poll its state.
JOB_PROTOCOLS = ("fal queue", "BRIA job", "Replicate")

KEY_NAMES = tuple({provider.info.key_name: 0 for provider in PROVIDERS.values() if getattr(provider.info, "key_name", "")})

#: Paths of the services below the URL of a loopback server, by the environment variable of their base URL.
PATHS = {
    "RMBG_FAL_URL": "run",
    "RMBG_FAL_QUEUE_URL": "queue",
    "RMBG_FAL_API_URL": "api",
    "RMBG_FAL_REST_URL": "rest",
    "RMBG_RUNWARE_URL": "v1",
    "RMBG_REMOVEBG_URL": "v1.0",
    "RMBG_PIXIAN_URL": "v1.0",
    "RMBG_GIGAROUTER_URL": "v1",
    "RMBG_PHOTOROOM_URL": "photoroom",
    "RMBG_RECRAFT_URL": "recraft",
    "RMBG_WITHOUTBG_URL": "withoutbg",
    "RMBG_BRIA_URL": "bria",
    "RMBG_REPLICATE_URL": "replicate",
}


def picture(width: int = 96, height: int = 64) -> bytes:
    """Return a PNG of a red ellipse on blue; noise keeps it from being compressed to a few bytes."""
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
    inside = (np.hypot(x, y) < 0.8)[..., None]
    grain = np.random.default_rng(1).integers(-20, 20, (height, width, 3))
    pixels = (np.where(inside, (200, 60, 40), (40, 90, 160)) + grain).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def environment(service: Service, folder: Path, **more: str) -> dict[str, str]:
    """Return environment variables that point every provider to `service`."""
    return {
        **{variable: f"{service.url}/{path}" for variable, path in PATHS.items()},
        "RMBG_RESULT_HOSTS": f"127.0.0.1:{service.port}",
        "RMBG_DATA": str(folder),
        "RMBG_MAX_BYTES": "1_000_000",
        "RMBG_REMOTE_SECONDS": "5",
        **{name: KEY for name in KEY_NAMES},
        **more,
    }


def settings(service: Service, folder: Path, **more: str) -> Settings:
    """Return the settings of `environment`."""
    return Settings.from_environ(environment(service, folder, **more))


def cut(
    service: Service, folder: Path, protocol: str, *, data: bytes | None = None, key: str | None = None, **more: Any
) -> Cutout:
    """Return one cutout by one of `PROTOCOLS`; uppercase names are environment variables, others are options."""
    chosen = PROTOCOLS[protocol]
    env = {name: value for name, value in more.items() if name.isupper()}
    given = {name: value for name, value in more.items() if not name.isupper() and not callable(value)}
    callbacks = {name: value for name, value in more.items() if callable(value)}
    return remove_background(
        data or picture(),
        chosen.provider,
        chosen.options | given,
        key=key,
        settings=settings(service, folder, **env),
        **callbacks,
    )


@pytest.fixture
def short_delays(monkeypatch):
    """Short delays between retries and polls, and few retries."""
    for module in (client, remote):
        monkeypatch.setattr(module, "RESULT_ATTEMPTS", 4)
    monkeypatch.setattr(client, "BACKOFF", 0.01)
    monkeypatch.setattr(client, "MAX_BACKOFF", 0.02)
    monkeypatch.setattr(client, "MAX_RETRY_AFTER", 0.5)
    monkeypatch.setattr(service_module, "POLL_INTERVAL", 0.01)
    monkeypatch.setattr(services.Bria, "jobs", dataclasses.replace(services.Bria.jobs, interval=0.01))
    monkeypatch.setattr(runware, "POLL_INTERVAL", 0.01)


@pytest.fixture
def debug_log(caplog):
    """Capture the log of all libraries at level DEBUG."""
    caplog.set_level(logging.DEBUG)
    return caplog
