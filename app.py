"""Entry point of the Space and of ``make run``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rmbg.errors import RmbgError
from rmbg.inference import zerogpu
from rmbg.settings import Settings
from rmbg.ui.storage import workspace

if TYPE_CHECKING:
    import gradio as gr


def _build() -> gr.Blocks:
    settings = Settings.from_environ()
    workspace()  # some modules of gradio read GRADIO_TEMP_DIR when they are imported
    # ZeroGPU requires the networks to be on the GPU before the app starts. Elsewhere this has no effect.
    for name, reason in zerogpu.load_networks(settings).items():
        sys.stderr.write(f"{name} cannot be loaded: {reason}\n")
    from rmbg.ui.app import build, prepare

    prepare()
    return build()


try:
    demo = _build()  # the name that the tools of Spaces and `gradio app.py` expect
except RmbgError as error:
    sys.exit(f"app.py: {error}")

if __name__ == "__main__":
    from rmbg.ui.app import launch

    try:
        launch(demo)
    except (RmbgError, OSError) as error:
        sys.exit(f"app.py: {error}")
