"""Whose key pays: the one given with the request, or the owner's from the environment where the owner allows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from rmbg.errors import NotReadyError
from rmbg.settings import Settings


@dataclass(frozen=True)
class Key:
    """A key and whether it is that of the owner of this machine; only then do budgets apply."""

    value: str = field(repr=False)
    owners: bool


def find(name: str, title: str, given: str | None, settings: Settings) -> Key:
    """The key for one request.

    Parameters
    ----------
    name : str
        Environment variable of the key.
    title : str
        What to call the service in messages.
    given : str or None
        A key that came with the request; it goes before all others and is used for nothing else.

    Raises
    ------
    NotReadyError
        There is none that may be used, or it cannot be a key.
    """
    if given and given.strip():
        return Key(_checked(given, title), owners=False)
    value = settings.environ.get(name, "")
    if value.strip() and may_use_owners(settings):
        return Key(_checked(value, title), owners=True)
    if value.strip():
        raise NotReadyError(f"{title} needs your own key here: the keys of this server are not for its visitors.")
    if settings.shared:
        raise NotReadyError(f"{title} needs a key: give your own.")
    raise NotReadyError(f"{title} needs a key: give one, or set {name}.")


def available(name: str, settings: Settings) -> bool:
    """Whether requests without a key of their own find one."""
    return bool(settings.environ.get(name, "").strip()) and may_use_owners(settings)


def may_use_owners(settings: Settings) -> bool:
    """On one's own machine the environment's keys are one's own; on a shared server the owner has to say so."""
    return settings.server_keys or not settings.shared


def _checked(value: str, title: str) -> str:
    value = value.strip()
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise NotReadyError(f"That is no key of {title}: it holds blanks, line breaks or letters that no key has.")
    return value
