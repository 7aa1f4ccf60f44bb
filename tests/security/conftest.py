"""Fixtures for paid calls: a loopback service and a photo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote import picture
from tests.servers.fal import Fal


@pytest.fixture
def fal() -> Iterator[Fal]:
    with Fal() as service:
        yield service


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(picture())
    return path
