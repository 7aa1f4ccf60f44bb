"""Adds the pictures of ``examples`` to the package, as ``rmbg/examples``; everything else is in pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

EXAMPLES = Path(__file__).resolve().parent / "examples"


class BuildWithExamples(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # the page reads them from the checkout
            return
        for source in [*EXAMPLES.glob("*/im/*"), *EXAMPLES.glob("*/gt/*")]:
            target = Path(self.build_lib) / "rmbg/examples" / source.relative_to(EXAMPLES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


setup(cmdclass={"build_py": BuildWithExamples})
