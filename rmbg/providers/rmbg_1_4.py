"""BRIA RMBG-1.4: fast, general purpose, non-commercial license."""

from __future__ import annotations

from rmbg.inference.catalog import MODELS
from rmbg.providers.local import LocalNetwork, describe

MODEL = MODELS["rmbg-1.4"]
RMBG_1_4 = LocalNetwork(describe(MODEL, "RMBG-1.4", "IS-Net, 44 million parameters", seconds=1.2), MODEL)
