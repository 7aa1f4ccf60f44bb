"""Chromium for the browser tests; ``python tests/browser.py --install`` installs it if it is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Without these Chromium contacts update servers, which logs errors on isolated networks.
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
    """Return the path of the system's Chromium; None selects the one of Playwright."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def arguments() -> list[str]:
    """Return the command-line arguments; the sandbox is off for root, as it fails in containers."""
    return [*ARGUMENTS, "--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else ARGUMENTS


def install() -> int:
    """Install Chromium from the Debian package if run as root, otherwise by Playwright; returns the exit status."""
    if executable():
        return 0
    if shutil.which("apt-get") and getattr(os, "geteuid", lambda: 1)() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        if subprocess.run(["apt-get", "install", "-y", "-qq", "chromium", "fonts-dejavu-core"], check=False).returncode == 0:
            return 0
    return subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False).returncode


if __name__ == "__main__" and "--install" in sys.argv:
    sys.exit(install())
