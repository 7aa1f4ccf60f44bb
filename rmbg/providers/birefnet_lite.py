"""BiRefNet with a Swin-T backbone: several times faster than BiRefNet, MIT license."""

from __future__ import annotations

from rmbg.inference.catalog import MODELS
from rmbg.providers.local import LocalNetwork, describe

MODEL = MODELS["birefnet-lite"]
BIREFNET_LITE = LocalNetwork(
    describe(MODEL, "BiRefNet lite", "BiRefNet with a small backbone, 44 million parameters", seconds=3.0), MODEL
)
