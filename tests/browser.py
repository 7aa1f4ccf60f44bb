"""Where Chromium is; ``python tests/browser.py --install`` gets one if there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Without these Chromium asks servers of its maker for updates and lists, which fails loudly on closed networks.
ARGUMENTS = [
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


def executable() -> str | None:
    """The system's Chromium; None means Playwright's own."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def arguments() -> list[str]:
    """Chromium's sandbox does not work for root, as in containers."""
    return [*ARGUMENTS, "--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else ARGUMENTS


def install() -> int:
    """Debian's package where we may install one, Playwright's download elsewhere."""
    if executable():
        return 0
    if shutil.which("apt-get") and getattr(os, "geteuid", lambda: 1)() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        if subprocess.run(["apt-get", "install", "-y", "-qq", "chromium", "fonts-dejavu-core"], check=False).returncode == 0:
            return 0
    return subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False).returncode


if __name__ == "__main__" and "--install" in sys.argv:
    sys.exit(install())
