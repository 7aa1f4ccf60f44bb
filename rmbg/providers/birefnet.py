"""BiRefNet as its authors published it: like RMBG-2.0, trained on public data, free to use."""

from __future__ import annotations

from rmbg.engines.models import MODELS
from rmbg.providers.local import LocalNetwork, describe

MODEL = MODELS["birefnet"]
BIREFNET = LocalNetwork(describe(MODEL, "BiRefNet", "BiRefNet, 220 million parameters", seconds=9.0), MODEL)
