"""Entry point of the Space and of ``make run``."""

import sys

from rmbg.errors import RmbgError
from rmbg.inference import zerogpu
from rmbg.settings import Settings
from rmbg.ui.workspace import workspace

try:
    settings = Settings.from_environ()
    workspace()  # some modules of gradio read GRADIO_TEMP_DIR when they are imported
except RmbgError as error:
    sys.exit(f"app.py: {error}")

# ZeroGPU requires the networks to be on the GPU before the app starts. Elsewhere this has no effect.
for name, reason in zerogpu.load_networks(settings).items():
    sys.stderr.write(f"{name} cannot be loaded: {reason}\n")

if __name__ == "__main__":
    from rmbg.ui.app import launch

    try:
        launch()
    except (RmbgError, OSError) as error:
        sys.exit(f"app.py: {error}")
