"""Adds the pictures of ``examples`` to the package, its requirements and its readme; the rest is in pyproject.toml.

requirements.txt lists what the app of a checkout installs. Of that, torch and transformers are the extra ``torch`` of the
package: the built-in network runs on OpenVINO, and the services need no network.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent

EXAMPLES = ROOT / "examples"

#: Requirements of the app that are an extra of the package.
OPTIONAL = ("torch", "transformers")


class BuildWithExamples(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # the page reads them from the checkout
            return
        for source in [*EXAMPLES.glob("*/im/*"), *EXAMPLES.glob("*/gt/*")]:
            target = Path(self.build_lib) / "rmbg/examples" / source.relative_to(EXAMPLES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def requirements() -> list[str]:
    """Return the requirements of the package: those of the app without `OPTIONAL`."""
    lines = (line.strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith((*OPTIONAL, "#"))]


def readme() -> str:
    """Return the README without its front matter, which is for a Hugging Face Space."""
    return (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2].lstrip()


setup(
    cmdclass={"build_py": BuildWithExamples},
    install_requires=requirements(),
    long_description=readme(),
    long_description_content_type="text/markdown",
)
