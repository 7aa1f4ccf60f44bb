"""Entry point of the Space and of ``make run``: builds the page and starts it."""

import sys

from rmbg.engines import zero
from rmbg.settings import Settings
from rmbg.ui import launch

# On a Space with a shared graphics card the networks must be on it before the page is started; elsewhere this does nothing.
for name, reason in zero.place(Settings.from_environ()).items():
    sys.stderr.write(f"{name} is not loaded: {reason}\n")

if __name__ == "__main__":
    launch()
