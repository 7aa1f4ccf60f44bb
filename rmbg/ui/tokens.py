"""Secret tokens that name sessions, so that a page finds its session again after a reload.

A page draws a token of 256 bits at random. The server stores its SHA-256 digest only, for as long as the session exists.
"""

from __future__ import annotations

import hashlib
import re
import threading
import weakref
from typing import Generic, TypeVar

T = TypeVar("T")

#: Base64 of 32 bytes without padding.
TOKEN = re.compile("[A-Za-z0-9_-]{43}")


class Tokens(Generic[T]):
    """Weak mapping from tokens to objects; each object has at most one token."""

    def __init__(self) -> None:
        self._objects: weakref.WeakValueDictionary[bytes, T] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def register(self, token: str, value: T) -> None:
        """Make `token` the token of `value`; tokens of another form, and those in use, are ignored."""
        if not TOKEN.fullmatch(token):
            return
        with self._lock:
            if _digest(token) not in self._objects:
                self._remove(value)
                self._objects[_digest(token)] = value

    def find(self, token: str) -> T | None:
        """Return the object of a token, or None."""
        with self._lock:
            return self._objects.get(_digest(token))

    def claim(self, token: str, holder: T) -> T | None:
        """Return the object of a token, which becomes invalid, and pass the token of `holder` on to that object.

        Of several calls with the same token one succeeds; the others return None, as for an unknown token.
        """
        with self._lock:
            value = self._objects.pop(_digest(token), None)
            if value is None:
                return None
            for digest in self._remove(holder):
                self._objects[digest] = value
            return value

    def revoke(self, value: T) -> None:
        """Make the token of `value` invalid."""
        with self._lock:
            self._remove(value)

    def _remove(self, value: T) -> list[bytes]:
        digests = [digest for digest, other in self._objects.items() if other is value]
        for digest in digests:
            del self._objects[digest]
        return digests


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
