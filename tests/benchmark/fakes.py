"""Fake providers and a small data set."""

from __future__ import annotations

import io
import threading
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
from PIL import Image

from rmbg.billing.cost import Cost
from rmbg.billing.quote import Price
from rmbg.cutout import Cutout
from rmbg.errors import NoSubjectError, ServiceError
from rmbg.providers.base import READY, Provider, ProviderInfo, Status, no_turn
from tests.benchmark.shapes import chair

TRUTH = np.ascontiguousarray(chair()[::4, ::4])


def make_dataset(root: Path, *, categories=("shop", "people"), count: int = 3) -> Path:
    """Chairs on backgrounds of different colors; picture i is named ``0i``."""
    for category in categories:
        for i in range(count):
            for kind in ("im", "gt"):
                (root / category / kind).mkdir(parents=True, exist_ok=True)
            ground = np.array([40 * i, 200 - 40 * i, 90], np.float32)
            rgb = TRUTH[..., None] * 250 + (1 - TRUTH[..., None]) * (ground + 5 * len(category))
            _save(rgb, root / category / "im" / f"0{i}.png")
            _save(TRUTH * 255, root / category / "gt" / f"0{i}.png")
    return root


def _save(pixels: np.ndarray, path: Path) -> None:
    out = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(out, "PNG")
    path.write_bytes(out.getvalue())


class Fake(Provider):
    """Provider that returns the true matte, except for pictures in `fail` (raises `error`) and `nothing` (no subject)."""

    def __init__(self, name="fake", kind="local", price=None, *, fail=(), nothing=(), wait=0.0, status=READY, error=None):
        self.price = None if price is None else Decimal(price)
        self.info = ProviderInfo(
            id=name,
            title=name.title(),
            kind=kind,
            model="none",
            license="",
            license_url="",
            pixels="",
            price=None if kind == "local" else Price(self.price, "listed", "", "", self.price or Decimal(0)),
            seconds=0.01,
        )
        self.fail, self.nothing, self.wait, self._status = fail, nothing, wait, status
        self.error = error or ServiceError("The service is down.")
        self.calls, self.at_once, self.most_at_once = [], 0, 0
        self.seconds = 0.25
        self._lock = threading.Lock()

    def status(self, settings) -> Status:
        return self._status

    def cut(self, photo, options, call) -> Cutout:
        with (call.device if self.info.kind == "local" else no_turn)(call.check):
            self._work(photo, call)
        if photo.name in self.fail:
            raise self.error
        if photo.name in self.nothing:
            raise NoSubjectError("Nothing there.")
        height, width = photo.rgb.shape[:2]
        matte = TRUTH if TRUTH.shape == (height, width) else np.full((height, width), 0.75, np.float32)
        basis = "charged" if self.info.kind == "remote" else "estimated"
        cost = Cost(None, "unknown") if self.price is None else Cost(self.price, basis)
        return Cutout(photo, matte.copy(), photo.rgb.copy(), self.info.id, self.seconds, cost, device="cpu", engine="fake")

    def _work(self, photo, call) -> None:
        with self._lock:
            self.calls.append(photo.name)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            for _ in range(max(1, int(self.wait / 0.01))):
                call.check()
                time.sleep(min(self.wait, 0.01))
        finally:
            with self._lock:
                self.at_once -= 1
