"""BRIA RMBG-2.0: the finest edges and the longest run time on a CPU, non-commercial license."""

from __future__ import annotations

from rmbg.inference.catalog import MODELS
from rmbg.providers.local import LocalNetwork, describe

MODEL = MODELS["rmbg-2.0"]
RMBG_2_0 = LocalNetwork(describe(MODEL, "RMBG-2.0", "BiRefNet, 220 million parameters", seconds=9.0), MODEL)
