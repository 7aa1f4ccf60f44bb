"""What the tests of remote providers share: stand-ins, settings that point to them, and one photo."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmbg import http, remove_background
from rmbg.cutout import Cutout
from rmbg.providers import fal_queue, runware
from rmbg.settings import Settings
from tests.servers.fal import FAL_FAULTS, Fal
from tests.servers.removebg import REMOVEBG_FAULTS, RemoveBg
from tests.servers.runware import RUNWARE_FAULTS, Runware
from tests.servers.service import KEY, Service

#: Ways to ask for one picture: provider, options, stand-in, faults of its protocol.
WAYS: dict[str, tuple[str, dict[str, Any], type[Service], dict[str, Any]]] = {
    "fal queue": ("fal-rmbg-2.0", {}, Fal, FAL_FAULTS),
    "fal direct": ("fal-rmbg-2.0", {"mode": "direct"}, Fal, FAL_FAULTS),
    "Runware": ("runware-rmbg-2.0", {}, Runware, RUNWARE_FAULTS),
    "Runware async": ("runware-rembg-1.4", {"deliveryMethod": "async"}, Runware, RUNWARE_FAULTS),
    "remove.bg": ("removebg", {}, RemoveBg, REMOVEBG_FAULTS),
}

KEY_NAMES = ("FAL_KEY", "RUNWARE_API_KEY", "REMOVEBG_API_KEY", "GIGAROUTER_API_KEY")


def picture(width: int = 96, height: int = 64) -> bytes:
    """A red ellipse before blue, with grain, so that its file does not get small."""
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
    inside = (np.hypot(x, y) < 0.8)[..., None]
    grain = np.random.default_rng(1).integers(-20, 20, (height, width, 3))
    pixels = (np.where(inside, (200, 60, 40), (40, 90, 160)) + grain).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def environment(service: Service, folder: Path, **more: str) -> dict[str, str]:
    """An environment in which every service is `service`."""
    url = service.url
    return {
        "RMBG_FAL_URL": f"{url}/run",
        "RMBG_FAL_QUEUE_URL": f"{url}/queue",
        "RMBG_FAL_API_URL": f"{url}/api",
        "RMBG_FAL_REST_URL": f"{url}/rest",
        "RMBG_RUNWARE_URL": f"{url}/v1",
        "RMBG_REMOVEBG_URL": f"{url}/v1.0",
        "RMBG_GIGAROUTER_URL": f"{url}/v1",
        "RMBG_RESULT_HOSTS": "127.0.0.1",
        "RMBG_DATA": str(folder),
        "RMBG_MAX_BYTES": "1_000_000",
        "RMBG_REMOTE_SECONDS": "5",
        **{name: KEY for name in KEY_NAMES},
        **more,
    }


def settings(service: Service, folder: Path, **more: str) -> Settings:
    return Settings.from_environ(environment(service, folder, **more))


def cut(service: Service, folder: Path, way: str, *, data: bytes | None = None, key: str | None = None, **more: Any) -> Cutout:
    """One cutout by one of `WAYS`; names in capitals are environment, others options."""
    provider, options, _, _ = WAYS[way]
    env = {name: value for name, value in more.items() if name.isupper()}
    given = {name: value for name, value in more.items() if not name.isupper() and not callable(value)}
    called = {name: value for name, value in more.items() if callable(value)}
    return remove_background(
        data or picture(), provider, options | given, key=key, settings=settings(service, folder, **env), **called
    )


@pytest.fixture
def hurry(monkeypatch):
    """Pauses between tries and questions that a test can afford."""
    monkeypatch.setattr(http, "BACKOFF", 0.01)
    monkeypatch.setattr(http, "PATIENCE", 0.5)
    monkeypatch.setattr(fal_queue, "POLL", 0.01)
    monkeypatch.setattr(runware, "POLL", 0.01)


@pytest.fixture
def everything_logged(caplog):
    """All that any library logs, down to the last detail."""
    caplog.set_level(logging.DEBUG)
    return caplog
