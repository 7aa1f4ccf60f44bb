"""Recovery folder for paid results that could not be delivered."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rmbg.billing.cost import Cost
from rmbg.errors import CancelledError, OutputError, reason
from rmbg.settings import Settings

#: Name of the recovery folder in the data folder.
FOLDER = "recovered"


@contextlib.contextmanager
def kept(files: Callable[[], Mapping[str, bytes]], cost: Cost, settings: Settings) -> Iterator[None]:
    """Save paid results to the recovery folder if the block, which delivers them, fails.

    Parameters
    ----------
    files : callable () -> mapping of file name to bytes
        Encodes the results; called only after a failure.
    cost : Cost
        Total cost of the results.
    settings : Settings

    Raises
    ------
    OutputError
        If the block fails; the message contains the location and the cost of the results.
    KeyboardInterrupt
        With the same message, if the block is interrupted.
    """
    try:
        yield
    except Exception as error:
        raise keep(error, files(), cost, settings) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(str(keep(CancelledError("Stopped."), files(), cost, settings))) from None


def keep(error: BaseException, files: Mapping[str, bytes], cost: Cost, settings: Settings) -> OutputError:
    """Save paid results after a failed delivery and return the error to raise, with their location and cost.

    Parameters
    ----------
    error : Exception
        Error of the delivery.
    files : mapping of file name to bytes
    cost : Cost
        Total cost of the results.
    settings : Settings
    """
    subject = "The result was" if len(files) == 1 else f"The {len(files)} results were"
    text = str(error) if str(error).endswith(".") else f"The output cannot be written: {reason(error)}."
    try:
        paths = save(files, settings)
    except OSError as second:
        text += f" {subject} paid for ({cost}) and could not be saved elsewhere either: {reason(second)}."
    else:
        location = paths[0] if len(paths) == 1 else paths[0].parent
        # The message of a shared server contains the file name only, because paths are not disclosed to visitors.
        where = f"on the server as {paths[0].name}; its operator can send it" if settings.shared else f"as {location}"
        if len(paths) > 1 and not settings.shared:
            where = f"in {location}"
        text += f" {subject} paid for ({cost}) and {'is' if len(files) == 1 else 'are'} kept {where}."
    output_error = OutputError(text)
    output_error.cost = cost
    return output_error


def save(files: Mapping[str, bytes], settings: Settings) -> list[Path]:
    """Write files to the recovery folder, or to a temporary folder if that fails, and return their paths.

    The files are readable by the user of this process only. On a shared server, they are written to a temporary folder, because
    they are pictures of visitors.

    Raises
    ------
    OSError
        If neither folder can be written.
    """
    if not settings.shared:
        try:
            folder = settings.data / FOLDER
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return [_write(folder, name, data) for name, data in files.items()]
        except OSError:
            pass
    folder = Path(tempfile.mkdtemp(prefix="rmbg-recovered-"))
    return [_write(folder, name, data) for name, data in files.items()]


def _write(folder: Path, name: str, data: bytes) -> Path:
    safe_name = Path(re.sub(r"[^\w.-]+", "_", name)[-80:].lstrip("."))
    handle, path = tempfile.mkstemp(prefix=f"{safe_name.stem or 'result'}-", suffix=safe_name.suffix, dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise
    return Path(path)
