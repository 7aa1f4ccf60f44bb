"""Standard output and standard error of a command; a short write to standard output is an error."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys

from rmbg.errors import OutputError

#: Escape sequence that clears the current line of a terminal.
CLEAR_LINE = "\r\033[K"


def write(data: bytes) -> None:
    """Write `data` to standard output.

    Raises
    ------
    OutputError
        If standard output is closed or cannot be written, for example on a full disk.
    BrokenPipeError
        If the reader of the pipe has exited.
    """
    stream = _stdout()
    descriptor = _descriptor()
    try:
        if descriptor is None:
            stream.buffer.write(data)
            stream.flush()
        else:
            stream.flush()
            _write_all(descriptor, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"The output cannot be written: {error.strerror or error}.") from None


def write_text(text: str) -> None:
    """Write `text` to standard output in its encoding.

    Characters outside the encoding are written as escape sequences. A pipe on Windows has an 8-bit encoding. Raises the same
    errors as `write`.
    """
    stream = _stdout()
    if _descriptor() is None:
        stream.write(text)
        stream.flush()
    else:
        write(text.encode(stream.encoding or "utf-8", "backslashreplace"))


def report(text: str) -> None:
    """Print a message on standard error; it replaces the progress line."""
    write_error((CLEAR_LINE if stderr_is_terminal() else "") + f"rmbg: {text}\n")


def write_error(text: str) -> None:
    """Write `text` to standard error; errors are ignored."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


def stderr_is_terminal() -> bool:
    """True if standard error is a terminal, on which a line can be overwritten."""
    return sys.stderr is not None and sys.stderr.isatty()


def _stdout() -> io.TextIOWrapper:
    if sys.stdout is None:
        raise OutputError("Standard output is closed; redirect it to a file or a pipe.")
    return sys.stdout  # type: ignore[return-value]


def _descriptor() -> int | None:
    """File descriptor of standard output, or None if Python's buffered stream must be used."""
    if os.name == "nt":  # Windows converts line endings, and its pipes always block
        return None
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError):  # replaced by an in-memory stream
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, with repeated writes; `descriptor` may be non-blocking."""
    remaining = memoryview(data)
    while remaining:
        try:
            remaining = remaining[os.write(descriptor, remaining) :]
        except BlockingIOError:
            select.select([], [descriptor], [])
