"""Requests to the app, whose API uses the provider ``disc``."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.remote import picture

#: The photo of most tests, and width and height of it.
PHOTO, WIDTH, HEIGHT = picture(160, 120), 160, 120

#: The disc in it: left, top, right and bottom.
BOX = (51, 31, 110, 90)


@pytest.fixture
def client(app: str, disc: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setenv("RMBG_REST_PROVIDER", "disc")
    with httpx.Client(base_url=app, trust_env=False, timeout=120) as client:
        yield client


@pytest.fixture
def remove(client: httpx.Client) -> Callable[..., httpx.Response]:
    """Send a multipart request with the photo, other fields, and files."""

    def send(files: dict[str, bytes] | None = None, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        files = {"image_file": PHOTO} if files is None else files
        sent = {name: (f"{name}.png", data) for name, data in files.items()}
        return client.post("/v1.0/removebg", data=fields, files=sent, headers=headers)

    return send


def pixels(response: httpx.Response) -> np.ndarray:
    """Return the pixels of a successful response."""
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)))


def error(response: httpx.Response) -> tuple[int, str]:
    """Return status and code of an error response."""
    (found,) = response.json()["errors"]
    assert found["title"], found
    return response.status_code, found["code"]
