"""Install a distribution in an empty environment, and remove a background with it: ``python tests/installed.py FILE``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    distribution = Path(sys.argv[1]).resolve()
    photo = sorted((ROOT / "examples").glob("*/im/*"))[0]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        programs = Path(folder) / ("Scripts" if os.name == "nt" else "bin")
        subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", distribution], check=True)
        subprocess.run([programs / "python", "-m", "pip", "check"], check=True)
        subprocess.run([programs / "rmbg", "--version"], cwd=folder, check=True)
        subprocess.run([programs / "rmbg", "remove", photo, "cutout.png"], cwd=folder, check=True)
    print(f"{distribution.name}: installed and run")


if __name__ == "__main__":
    main()
