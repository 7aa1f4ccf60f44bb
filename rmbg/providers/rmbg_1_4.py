"""BRIA's RMBG-1.4: quick, for all kinds of photos."""

from __future__ import annotations

from rmbg.engines.models import MODELS
from rmbg.providers.local import LocalNetwork, describe

MODEL = MODELS["rmbg-1.4"]
RMBG_1_4 = LocalNetwork(describe(MODEL, "RMBG-1.4", "IS-Net, 44 million parameters", seconds=1.2), MODEL)
