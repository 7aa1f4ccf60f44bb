"""Languages of the page: the catalogs in ``i18n``, the language of a request, and the translation of texts.

The key of a text is the text in English, with named placeholders. An entry is the translation, or its plural forms ``one`` and
``other``, of which the value ``count`` selects one. A text without an entry is shown in English.

The language is that of the ``Accept-Language`` header: of the page's request for the first page, of the event's request for
everything after it. The components of the page are created once, for all visitors. `marked` makes their texts marks, which
`localized` replaces for each language.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup, escape

from rmbg.errors import RmbgError
from rmbg.providers.base import Status
from rmbg.runtime.messages import Message, OwnerMessage

#: One file for each language, with the same keys.
FOLDER = Path(__file__).parent / "i18n"

#: Scripts of the page.
SCRIPTS = Path(__file__).parent / "assets"

DEFAULT = "en"

#: Language of the event or page that is being handled.
LANGUAGE: ContextVar[str] = ContextVar("language", default=DEFAULT)

#: Attributes of components that contain labels.
LABELS = ("label", "placeholder", "info")

#: Longest Accept-Language header that is read, in characters.
LONGEST_HEADER = 200

#: Pseudo-language in which texts are marks, and the form of a mark: an index of `_MARKED` between private characters.
_MARKS, _MARK = "marks", re.compile("\ue000([0-9]+)\ue001")

_MARKED: list[tuple[str, dict[str, Any], bool]] = []

log = logging.getLogger(__name__)

Entry = str | dict[str, str]


@cache
def translations() -> dict[str, dict[str, Entry]]:
    """Return the texts of each language by key."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def preferred(header: str) -> str:
    """Return the language of the page for an ``Accept-Language`` header: the first choice of the browser, English if unknown.

    Further choices are not considered, as Gradio's own labels follow the first one.
    """
    ranges = []
    for part in header[:LONGEST_HEADER].split(","):
        name, _, weight = part.strip().partition(";")
        found = re.fullmatch(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", weight)
        ranges.append((float(found[1]) if found else 1.0, name.partition("-")[0].strip().lower()))
    best = max(ranges, key=lambda item: item[0])[1]
    return best if best in translations() else DEFAULT


@contextlib.contextmanager
def speaking(language: str) -> Iterator[None]:
    """Make `language` that of the texts in the block."""
    token = LANGUAGE.set(language)
    try:
        yield
    finally:
        LANGUAGE.reset(token)


def marked() -> contextlib.AbstractContextManager[None]:
    """Make the texts in the block marks, which `localized` replaces."""
    return speaking(_MARKS)


def t(text: str, /, **values: Any) -> str:
    """Return a text in the visitor's language.

    Parameters
    ----------
    text : str
        A key of the catalogs, or a `Message`, which contains its values. Any other text is returned unchanged.
    **values
        Values of the placeholders; messages are translated.
    """
    return _say(text, values, html=False)


def markup(text: str, /, **values: Any) -> Markup:
    """Return a text in the visitor's language as HTML; values are escaped unless they are `Markup`."""
    return Markup(_say(text, values, html=True))


def _say(text: str, values: dict[str, Any], *, html: bool) -> str:
    template, values = (text.template, text.values) if isinstance(text, Message) else (text, values)
    if LANGUAGE.get() == _MARKS:
        _MARKED.append((template, values, html))
        return f"\ue000{len(_MARKED) - 1}\ue001"
    chosen = escape(_entry(template, values)) if html else _entry(template, values)
    said = {name: t(value) if isinstance(value, Message) else value for name, value in values.items()}
    return chosen.format(**said) if values else chosen


def _entry(template: str, values: dict[str, Any]) -> str:
    language = LANGUAGE.get()
    entry = _forms(language, template)
    if isinstance(entry, str):
        return entry
    is_one = values["count"] in ((0, 1) if language == "fr" else (1,))
    return entry["one" if is_one and "one" in entry else "other"]


def _forms(language: str, template: str) -> Entry:
    return translations().get(language, {}).get(template) or translations()[DEFAULT].get(template, template)


def plain(text: str, *, html: bool = False) -> str:
    """Return a text in which marks are replaced by the texts in the visitor's language, escaped if the text is HTML."""
    return _MARK.sub(lambda found: _unmarked(int(found[1]), html), text)


def _unmarked(index: int, into_html: bool) -> str:
    template, values, html = _MARKED[index]
    said = {}
    for name, value in values.items():
        if isinstance(value, Markup):
            value = Markup(plain(value, html=True))
        elif isinstance(value, str) and not isinstance(value, Message):
            value = plain(value)
        said[name] = value
    text = _say(plain(template), said, html=html)  # a text that was translated already is a mark
    return str(escape(text)) if into_html and not html else text


def localized(value: Any) -> Any:
    """Return a copy of the configuration of the page, or a part of it, in the visitor's language.

    Marks are replaced everywhere. Labels, names of choices and the texts of buttons, tabs and accordions are translated.
    """
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, (list, tuple)):
        return [localized(item) for item in value]
    if not isinstance(value, dict):
        return value
    props = value.get("props")
    if not isinstance(props, dict):
        return {key: localized(item) for key, item in value.items()}
    kind, shown = str(value.get("type")), localized({key: item for key, item in props.items() if key != "props"})
    for name in (*LABELS, "value") if kind == "button" else LABELS:
        if isinstance(shown.get(name), str) and shown[name]:
            shown[name] = t(shown[name])
    if kind in ("radio", "dropdown") and isinstance(shown.get("choices"), list):
        shown["choices"] = [[t(choice[0]), *choice[1:]] for choice in shown["choices"]]
    if kind in ("html", "markdown") and isinstance(props.get("value"), str):
        shown["value"] = plain(props["value"], html=True)
    return {**value, "props": shown}


@cache
def script_texts() -> frozenset[str]:
    """Return the keys of the texts in the scripts of the page."""
    found = (re.findall(r'rmbgText\(\s*"((?:[^"\\]|\\.)+)"', path.read_text(encoding="utf-8")) for path in SCRIPTS.glob("*.js"))
    return frozenset(json.loads(f'"{key}"') for keys in found for key in keys)


def texts_script() -> str:
    """Return a script with the language and the texts of the scripts of the page, which ``rmbgText`` of ``page.js`` reads."""
    language = LANGUAGE.get()
    texts = {key: _forms(language, key) for key in sorted(script_texts())}
    data = json.dumps({"language": language, "texts": texts}).replace("<", "\\u003c")
    return f"<script>window.rmbgLanguage = {data};</script>"


def for_visitor(text: str) -> str:
    """Return a message without the part for the owner of the server.

    A message about the configuration of the server is logged for its owner and replaced.
    """
    if not isinstance(text, Message):
        return text
    if any(isinstance(part, OwnerMessage) for part in (text, *text.values.values())):
        log.warning("%s", text)
    return text.public


def visitor_text(message: str | RmbgError) -> str:
    """Return a message or an error for a visitor, in the language of the request."""
    return t(for_visitor(str(message)))


def status_text(status: Status) -> str:
    """Return the status of a provider in the language of the request, without the advice for the owner of the server."""
    return t(status.text.public if isinstance(status.text, Message) else status.text)


def page_error(message: str | RmbgError) -> gr.Error:
    """Return the exception that shows a message or an error to a visitor of the page or of the API."""
    return gr.Error(visitor_text(message), title=t("Error"), print_exception=False)
