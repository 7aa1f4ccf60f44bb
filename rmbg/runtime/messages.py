"""Messages that can be translated: English text that keeps its template and the values in it."""

from __future__ import annotations

from typing import Any


class Message(str):
    """English text made from a template with named placeholders, such as ``{name} is empty. Choose another file.``

    It is a string wherever it is printed, logged or compared. ``str(message)``, and ``str(error)`` of an exception that was
    raised with it, return the message itself, so the page can translate its template; formatting into another text does not.

    Parameters
    ----------
    template : str
        A literal, which is a key of the catalogs in ``rmbg/ui/i18n`` if the page shows the message.
    owner : str
        End of the text, with the space or sign before it, that the page leaves out: advice on settings, which only the owner
        of a server can follow.
    **values
        Values of the placeholders. Those that are messages are translated as well.
    """

    template: str
    owner: str
    values: dict[str, Any]

    def __new__(cls, template: str, /, *, owner: str = "", **values: Any) -> Message:
        self = super().__new__(cls, (template.format(**values) if values else template) + owner)
        self.template, self.owner, self.values = template, owner, values
        return self

    def __str__(self) -> str:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.template, self.owner, self.values)

    @property
    def public(self) -> Message:
        """The message, and those in it, without the advice for the owner."""
        values = {name: value.public if isinstance(value, Message) else value for name, value in self.values.items()}
        return Message(self.template, **values)


class OwnerMessage(Message):
    """Message about the configuration of the machine, for its owner: on the command line, and in the log of a server.

    Parameters
    ----------
    text : str
        In English.
    visitor : Message
        What visitors of a server read instead.
    """

    visitor: Message

    def __new__(cls, text: str, visitor: Message) -> OwnerMessage:
        self = str.__new__(cls, text)
        self.template, self.owner, self.values, self.visitor = text, "", {}, visitor
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return OwnerMessage, (self.template, self.visitor)

    @property
    def public(self) -> Message:
        """The message for visitors."""
        return self.visitor


#: For visitors, in the place of messages about the settings of a provider's engine, device or weights.
NOT_SET_UP = Message(
    "This provider is not set up here. Choose another one. The log of the server has the details for its owner."
)


def public_text(text: str, *, shared: bool) -> str:
    """Return a message as a plain text: without the part for the owner if the server is shared, as visitors read it then."""
    return f"{text.public if shared and isinstance(text, Message) else text}"


def _restored(template: str, owner: str, values: dict[str, Any]) -> Message:
    return Message(template, owner=owner, **values)


def joined(first: str, second: str) -> str:
    """Return two messages, of which each may be empty, as one."""
    if not (first and second):
        return first or second
    texts = (text if isinstance(text, Message) else Message(text) for text in (first, second))
    return Message("{first} {second}", **dict(zip(("first", "second"), texts, strict=True)))


# Sizes in messages: megabytes and megapixels, both decimal.


def megabytes(count: int) -> str:
    """Return a number of bytes as text, such as ``40 MB`` or ``0.05 MB``."""
    return f"{_rounded(count / 1e6)} MB"


def megapixels(count: int) -> str:
    """Return a number of pixels as text, such as ``64 megapixels``."""
    return Message("{size} megapixels", size=_rounded(count / 1e6))


def _rounded(value: float) -> str:
    """Return a number with four significant digits and all digits before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
