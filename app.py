"""Entry point of the Space and of ``make run``: builds the page and starts it."""

import sys

from rmbg.engines import zero
from rmbg.errors import RmbgError
from rmbg.settings import Settings
from rmbg.ui import launch

try:
    settings = Settings.from_environ()
except RmbgError as error:
    sys.exit(f"app.py: {error}")

# On a Space with a shared graphics card the networks must be on it before the page is started; elsewhere this does nothing.
for name, reason in zero.place(settings).items():
    sys.stderr.write(f"{name} is not loaded: {reason}\n")

if __name__ == "__main__":
    launch()
