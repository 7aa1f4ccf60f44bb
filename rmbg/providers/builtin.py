"""The provider that needs nothing: no key, no download, no graphics card, no network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rmbg import classical, prices
from rmbg.cutout import Cutout, finish
from rmbg.errors import NoSubjectError
from rmbg.matte import upsample_guided
from rmbg.photo import Photo
from rmbg.providers.base import Call, Provider, ProviderInfo


class Builtin(Provider):
    """A classical segmentation on a small copy, its edge brought to full size by a guided filter."""

    info = ProviderInfo(
        id="builtin",
        title="Built-in",
        kind="local",
        model="colour and border statistics, no network",
        licence="Part of this project (MIT); use the results as you like.",
        licence_url="https://opensource.org/license/mit",
        pixels="The photo stays on this machine.",
        seconds=0.8,
        input_size=f"at most {classical.SIDE} pixels a side",
        supports=("offline", "soft alpha", "deterministic"),
    )

    def cut(self, photo: Photo, options: Mapping[str, Any], call: Call) -> Cutout:
        started = time.perf_counter()
        rgb = photo.flattened()
        call.progress(0.1, "Looking for the subject")
        small, confidence = classical.segment(rgb)
        if confidence < classical.CONFIDENT:
            raise NoSubjectError(
                "No clear subject was found: nothing stands out from the background; try another provider or a photo with a "
                "plainer background."
            )
        call.check()
        call.progress(0.5, "Drawing the edge")
        matte = upsample_guided(small, rgb)
        call.check()
        call.progress(0.8, "Cleaning the colours of the edge")
        matte, foreground = finish(photo, matte)
        seconds = time.perf_counter() - started
        return Cutout(
            photo=photo,
            matte=matte,
            foreground=foreground,
            provider=self.info.id,
            seconds=seconds,
            cost=prices.own_hardware(seconds, call.settings.hourly_usd),
            engine="numpy",
            device="cpu",
            precision="fp32",
            notes=photo.notes,
        )
