"""Run the command line with other values of constants, to shorten delays.

python -m tests.processes.constants MODULE.NAME=VALUE ... COMMAND ...
"""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    from rmbg.__main__ import entry
    from rmbg.ui.storage import workspace

    while "=" in sys.argv[1]:
        name, _, value = sys.argv.pop(1).partition("=")
        if name.startswith("rmbg.ui."):
            workspace()  # as `serve` does before it imports Gradio
        module, _, constant = name.rpartition(".")
        before = getattr(importlib.import_module(module), constant)
        setattr(sys.modules[module], constant, type(before)(value))
    entry()


if __name__ == "__main__":
    main()
