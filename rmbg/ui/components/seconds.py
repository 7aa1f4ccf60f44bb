"""Seconds of a cutout by phase, as text."""

from __future__ import annotations

from dataclasses import asdict

from rmbg.cutout import Cutout
from rmbg.ui.languages import t

#: Phases of fewer seconds are left out.
LEAST = 0.005


def by_phase(cutout: Cutout) -> str:
    """Return the seconds of each phase, such as "inference 0.21, post-processing 0.34"; empty for a service."""
    if cutout.timings is None:
        return ""
    names = {
        "download": t("model download"),
        "load": t("loading"),
        "queue": t("waiting"),
        "inference": t("inference"),
        "processing": t("post-processing"),
    }
    return ", ".join(f"{names[name]} {value:.2f}" for name, value in asdict(cutout.timings).items() if value >= LEAST)
