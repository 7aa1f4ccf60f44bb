"""BiRefNet with the weights of its authors: the architecture of RMBG-2.0, trained on public data, MIT license."""

from __future__ import annotations

from rmbg.inference.catalog import MODELS
from rmbg.providers.local import LocalNetwork, describe

MODEL = MODELS["birefnet"]
BIREFNET = LocalNetwork(describe(MODEL, "BiRefNet", "BiRefNet, 220 million parameters", seconds=9.0), MODEL)
