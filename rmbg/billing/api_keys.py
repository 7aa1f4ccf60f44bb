"""Selection of the API key of a request: the request's own key, or the owner's key from the environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from rmbg.errors import NotReadyError
from rmbg.runtime.messages import Message
from rmbg.settings import Settings


@dataclass(frozen=True)
class Key:
    """API key; `owners` is True if it belongs to the owner of this machine, whose daily budget then applies."""

    value: str = field(repr=False)
    owners: bool


def find(name: str, title: str, request_key: str | None, settings: Settings) -> Key:
    """Return the API key of one request.

    Parameters
    ----------
    name : str
        Environment variable of the key.
    title : str
        Name of the service in messages.
    request_key : str or None
        Key of the request, which takes precedence and is used for this request only.

    Raises
    ------
    NotReadyError
        If no key may be used, or the key is malformed.
    """
    if request_key and request_key.strip():
        return Key(_checked(request_key, title), owners=False)
    value = settings.environ.get(name, "")
    if value.strip() and owner_keys_allowed(settings):
        return Key(_checked(value, title), owners=True)
    if value.strip():
        text = "{service} needs your own key here: visitors cannot use the keys of this server. Enter your key."
        raise NotReadyError(Message(text, service=title))
    advice = "" if settings.shared else f" On the command line, set {name}."
    raise NotReadyError(Message("{service} needs a key. Enter your own.", owner=advice, service=title))


def available(name: str, settings: Settings) -> bool:
    """True if a request without its own key may use the key of the environment."""
    return bool(settings.environ.get(name, "").strip()) and owner_keys_allowed(settings)


def owner_keys_allowed(settings: Settings) -> bool:
    """True if requests may use the owner's keys; on a shared server, this requires ``RMBG_SERVER_KEYS=1``."""
    return settings.server_keys or not settings.shared


def _checked(value: str, title: str) -> str:
    value = value.strip()
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise NotReadyError(
            Message(
                "This is not a valid {service} API key: it contains spaces, line breaks or non-ASCII characters. "
                "Copy it again.",
                service=title,
            )
        )
    return value
