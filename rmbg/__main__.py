"""Entry point of the command line: ``python -m rmbg COMMAND ...``, or ``rmbg COMMAND ...``.

Signal handlers are installed before large modules are imported, so that Ctrl-C never prints a traceback.
"""

from __future__ import annotations

import os

try:
    from typing import TYPE_CHECKING

    from rmbg.cli import process

    if TYPE_CHECKING:
        from collections.abc import Sequence
except KeyboardInterrupt:
    os._exit(130)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    handlers = process.exit_on_signals()
    try:
        process.open_standard_streams()
        from rmbg.cli import app

        return app.run(argv)
    finally:
        process.restore(handlers)


def entry() -> None:
    """Run the command line and exit the process with its status."""
    process.exit_on_signals()
    process.exit_with(main())


if __name__ == "__main__":
    entry()
