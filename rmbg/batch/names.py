"""Names of inputs and results: encodable, portable, unique."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from rmbg.errors import printable


def encodable(name: str) -> str:
    """Return a file name with undecodable bytes as backslash escapes, so that it can be encoded as UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def label(path: Path | str) -> str:
    """Return a path as printable text for messages."""
    return printable(encodable(str(path)), 120)


def without_suffix(name: str) -> str:
    """Return a relative path without the suffix of its last part."""
    return str(PurePosixPath(name).with_suffix(""))


def safe_part(part: str) -> str:
    """Return one part of an untrusted path as a portable file name, without separators and at most 200 characters long."""
    text = re.sub(r'[<>:"|?*\\/]', "_", "".join(c for c in part if c.isprintable())).strip(" .") or "photo"
    stem, suffix = PurePosixPath(text).stem, PurePosixPath(text).suffix
    return (stem[:120].encode()[:180].decode(errors="ignore").rstrip(" .") or "photo") + suffix[:20]


def safe_target(parts: Iterable[str]) -> str:
    """Return the relative path of a result from the parts of an untrusted path, without suffix and without traversal."""
    kept = [safe_part(part) for part in parts if part not in ("", ".", "..")]
    return without_suffix("/".join(kept or ["photo"]))


def unique_targets(wanted: Iterable[tuple[str, str]], taken: Iterable[str]) -> dict[str, str]:
    """Return targets that are unique on case-insensitive and Unicode-normalizing file systems as well.

    Parameters
    ----------
    wanted : iterable of (name, target)
        Inputs with their preferred targets. The first input with a target keeps it; for the others, the suffix of the
        input or a number is appended.
    taken : iterable of str
        Targets already in use by other inputs.

    Returns
    -------
    dict of name to target
    """
    used = {normalized(target) for target in taken}
    result = {}
    for name, target in wanted:
        suffix = PurePosixPath(name).suffix.lstrip(".").lower()
        suffix = suffix if suffix.isalnum() and len(suffix) <= 5 else ""
        choice, number = target, 1
        while normalized(choice) in used:
            choice = f"{target}.{suffix}" if number == 1 and suffix else f"{target}-{number}"
            number += 1
        used.add(normalized(choice))
        result[name] = choice
    return result


def normalized(target: str) -> str:
    """Return the Unicode-normalized, case-folded form of a target, for comparisons."""
    return unicodedata.normalize("NFC", target).casefold()
