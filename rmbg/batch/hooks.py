"""Parts of a batch that its caller may replace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rmbg.cutout import Cutout
from rmbg.providers.base import DeviceTurn, no_turn


@dataclass(frozen=True)
class Hooks:
    """Parts of a run that its caller may replace, such as a server that runs the batches of several visitors.

    Attributes
    ----------
    key : str or None
        API key of the calls, which is not stored; by default that of the environment.
    photo, device : callable (check) -> context manager
        Entered for each photo: the first one from decoding to encoding, the second one while a local network runs. They may
        wait, and call `check` meanwhile, which raises CancelledError.
    matte : callable (name) -> uint8 array (H, W) or None
        Returns the matte of an earlier run of the same local provider, which is then not run again.
    created : callable (name, cutout)
        Called with the name of the input and its cutout before the result is written; errors of the package are errors of the
        photo.
    """

    key: str | None = field(default=None, repr=False)
    photo: DeviceTurn = no_turn
    device: DeviceTurn = no_turn
    matte: Callable[[str], np.ndarray | None] = lambda name: None
    created: Callable[[str, Cutout], None] = lambda name, cutout: None


NO_HOOKS = Hooks()
