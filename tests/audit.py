"""Check the installed packages for known vulnerabilities with pip-audit; ``make audit`` runs this.

pip-audit lives in a virtual environment of its own, so that its requirements do not mix with those of the app. Without a
connection to the package index the check is skipped with a sentence; the exit status is 1 if a vulnerability was found.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

TOOL = "pip-audit>=2.9,<3"

#: Parts of the messages of pip and pip-audit when the index cannot be reached.
OFFLINE = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "name resolution", "from versions: none")


def main() -> int:
    """Install the tool if it is missing, run it, print its findings, and return the exit status."""
    program = installed(Path(sys.prefix) / "audit")
    if program is None:
        return skipped("pip-audit cannot be installed")
    packages = sysconfig.get_path("purelib")
    command = [str(program), "--path", packages, "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        if any(word in done.stderr for word in OFFLINE):
            return skipped("the database of vulnerabilities cannot be reached")
        sys.stderr.write(done.stderr)
        return 1
    return reported(found)


def installed(folder: Path) -> Path | None:
    """The path of pip-audit, installed into `folder` if it is not there; None if the index cannot be reached."""
    scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
    program = scripts / "pip-audit"
    if not program.exists() and not program.with_suffix(".exe").exists():
        venv.create(folder)
        pip = [sys.executable, "-m", "pip", "--python", str(scripts / "python")]  # a second pip takes seconds to install
        command = [*pip, "install", "--quiet", "--disable-pip-version-check", TOOL]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            if any(word in done.stderr for word in OFFLINE):
                return None
            sys.exit(done.stderr)
    return program


def reported(packages: list[dict[str, Any]]) -> int:
    """Print the vulnerabilities of packages; returns the exit status."""
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if len(unknown) == len(packages):
        return skipped("the package index has no vulnerability data, as a mirror may")
    vulnerable = [package for package in packages if package.get("vulns")]
    for package in vulnerable:
        for problem in package["vulns"]:
            fixed = ", ".join(problem["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {problem['id']}, fixed in {fixed}")
    if unknown:
        print(f"Not in the database: {', '.join(unknown)}.")
    print(f"{len(packages) - len(unknown)} packages checked, {len(vulnerable)} with known vulnerabilities.")
    return 1 if vulnerable else 0


def skipped(why: str) -> int:
    print(f"Skipped: {why}. Run make audit again with a connection to the package index.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
