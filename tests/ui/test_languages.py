"""Languages of the page: catalogs, the texts in the code, and what a visitor reads."""

from __future__ import annotations

import ast
import pickle
import re
import string
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import rmbg
from rmbg.billing.cost import Cost
from rmbg.billing.quote import PRICES
from rmbg.errors import PhotoError
from rmbg.inference.catalog import DOWNLOADS
from rmbg.providers import PROVIDERS
from rmbg.runtime.messages import Message, joined
from rmbg.ui import languages
from rmbg.ui.app import build
from rmbg.ui.languages import speaking, t, visitor_text
from rmbg.ui.templates import render
from tests.conftest import open_app
from tests.pictures import scene

WAIT = 90_000

PACKAGE = Path(rmbg.__file__).parent

#: German labels of photo, start button, download button, first tab and first view.
EXPECTED = ("Foto", "Hintergrund entfernen", "Herunterladen", "Entfernen", "Freisteller")

#: Functions whose first argument is a text, and those of components, of which keywords are labels as well.
SAID = {"t", "markup", "Message", "page_error", "visitor_text", "rmbgText"}
LABELED = {"label", "placeholder", "info"}
NAMED = {"Tab", "Accordion", "Button", "DownloadButton"}

#: Labels of components that are never visible, and texts without words.
UNSEEN = {
    "File",
    "Zip",
    "Apply the clean-up",
    "https://…",
}


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def forms(entry: languages.Entry) -> list[str]:
    return [entry] if isinstance(entry, str) else list(entry.values())


def test_languages_have_the_keys_and_placeholders_of_english():
    texts = languages.translations()
    assert set(texts) == {"en", "de", "es", "fr", "zh", "ja"}
    for language, entries in texts.items():
        assert list(entries) == list(texts["en"]), language
        for key, entry in entries.items():
            assert forms(entry)[-1] == key or language != "en"
            assert isinstance(entry, dict) == isinstance(texts["en"][key], dict), (language, key)
            if isinstance(entry, dict):
                assert set(entry) == ({"other"} if language in ("zh", "ja") else {"one", "other"}), (language, key)
            for form in forms(entry):
                assert form.strip() == form and form, (language, key)
                assert placeholders(form) | {"count"} == placeholders(key) | {"count"}, (language, form)


def texts_of(path: Path) -> Iterator[str]:
    """Literals in a module that are shown on the page: arguments of `SAID`, and labels of components."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        found = [*node.args[:1]] if name in SAID | NAMED else []
        if path.is_relative_to(PACKAGE / "ui" / "tabs") or path.is_relative_to(PACKAGE / "ui" / "components"):
            found += [keyword.value for keyword in node.keywords if keyword.arg in LABELED]
        for value in found:
            parts = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
            for part in parts:
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and re.search("[A-Za-z]{2}", part.value):
                    yield part.value


def template_texts(path: Path) -> list[str]:
    return re.findall(r'\bt\("([^"]+)"', path.read_text(encoding="utf-8"))


TEMPLATES = sorted((PACKAGE / "ui" / "templates").iterdir())


def test_texts_in_the_code_are_in_the_catalogs():
    known = languages.translations()["en"].keys() | UNSEEN
    missing = {f"{path.name}: {text}" for path in PACKAGE.rglob("*.py") for text in texts_of(path) if text not in known}
    missing |= {f"{path.name}: {text}" for path in TEMPLATES for text in template_texts(path) if text not in known}
    assert sorted(missing | (languages.script_texts() - known)) == []


def test_catalogs_contain_no_other_texts():
    used = set(languages.script_texts()).union(*(template_texts(path) for path in TEMPLATES))
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.add(node.value)
    assert sorted(languages.translations()["en"].keys() - used) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_contain_no_text_of_their_own(path):
    source = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    source = re.sub("RMBG Studio|Python|Gradio", "", source)
    attributes = re.findall(r'(?:aria-label|alt|title|placeholder|data-label)="([^"]*[A-Za-z][^"]*)"', source)
    assert attributes + re.findall("[A-Za-z]{2,}", re.sub(r"<[^>]*>", "", source)) == []


@pytest.fixture
def brackets(monkeypatch: pytest.MonkeyPatch) -> str:
    """A pseudo-language whose texts are those of English in brackets."""
    english = languages.translations()["en"]
    entries = {key: "".join(f"⟦{part}⟧" for part in (forms(entry)[-1],)) for key, entry in english.items()}
    monkeypatch.setitem(languages.translations(), "xx", entries)
    return "xx"


def test_first_page_has_no_text_beside_the_catalog(brackets):
    app = build()
    with speaking(brackets):
        config: Any = app.config
    data = " ".join(f"{p.info.title} {p.info.id} {p.info.model} {p.info.input_size}" for p in PROVIDERS.values())
    data += " " + " ".join(f"{model.title} {model.short_license}" for model in DOWNLOADS.values())
    data += " ".join(price.source for price in PRICES.values())
    data += " RMBG Studio Python Gradio NVIDIA MB px"
    names = set(re.findall(r"[^\W\d_]{3,}", data))
    found = []
    for component in config["components"]:
        if component["type"] not in ("html", "markdown"):
            continue
        text = component["props"].get("value") or ""
        text = re.sub(r"<code>.*?</code>|<[^>]*>|https?://\S+", " ", text)
        while (shorter := re.sub("⟦[^⟦⟧]*⟧", "", text)) != text:
            text = shorter
        found += [name for name in re.findall(r"[^\W\d_]{3,}", text) if name not in names]
    assert found == []
    assert "\ue000" not in str([component["props"].get("value") for component in config["components"]])


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("ZH-tw", "zh"),
        ("en;q=0.5, ja", "ja"),
        ("pt-BR,de;q=0.9", "en"),
        ("", "en"),
        ("*", "en"),
        ("de;q=x,,;;;=", "de"),
        ("../../secrets", "en"),
        ("x" * 100_000, "en"),
    ],
)
def test_language_is_the_first_choice_of_the_browser(header, language):
    assert languages.preferred(header) == language


def test_message_is_english_until_it_is_shown():
    error = PhotoError(Message("{name} is empty. Choose another file.", name="a <b>.png", owner=" RMBG_X is for owners."))
    copy = pickle.loads(pickle.dumps(error))
    assert f"{copy}" == "a <b>.png is empty. Choose another file. RMBG_X is for owners."
    with speaking("de"):
        assert visitor_text(copy) == "a <b>.png ist leer. Wählen Sie eine andere Datei."
        assert visitor_text(joined(str(error), "Stopped.")) == f"{visitor_text(error)} Abgebrochen."
        assert render("note.html", text=error.args[0]).count("a &lt;b&gt;.png ist leer") == 1
        assert t(str(Cost(None, "unknown"))) == "Kosten unbekannt"
        assert t("no {entry} of the catalog") == "no {entry} of the catalog"


def test_plural_forms():
    with speaking("de"):
        assert [t("{count} pictures", count=count) for count in (0, 1, 2)] == ["0 Bilder", "1 Bild", "2 Bilder"]
    with speaking("fr"):
        assert [t("{count} pictures", count=count) for count in (0, 1, 2)] == ["0 image", "1 image", "2 images"]
    with speaking("ja"):
        assert t("{count} pictures", count=1) == "画像 1 枚"


def test_page_is_cached_for_its_language_only(app):
    pages = {}
    for header in ("de", "fr", "en"):
        request = urllib.request.Request(app, headers={"Accept-Language": header})
        with urllib.request.urlopen(request, timeout=60) as answer:
            pages[header] = answer.read().decode()
            assert "accept-language" in answer.headers["Vary"].lower()
    for header, text in (("de", "Hintergrund entfernen"), ("fr", "Le détourage apparaît ici"), ("en", "Remove background")):
        page = pages[header]
        assert text in page or text.encode("ascii", "backslashreplace").decode() in page, header
        assert "\ue000" not in page and "\\ue000" not in page


def test_api_is_described_in_english(app):
    request = urllib.request.Request(f"{app}/gradio_api/info", headers={"Accept-Language": "de"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert "Hintergrund" not in answer.read().decode()


def check_labels(page: Any) -> None:
    photo, start, save, tab, view = EXPECTED
    page.wait_for_function("text => document.querySelector('#start').innerText === text", arg=start, timeout=WAIT)
    assert page.inner_text("#photo [data-testid=block-label]").strip() == photo
    assert page.inner_text("#save") == save
    assert page.locator("[role=tab]").first.inner_text() == tab
    assert page.locator("#view label").first.inner_text() == view


@pytest.mark.browser
def test_visitor_from_germany_reads_german(chromium, app, tmp_path):
    path = tmp_path / "Becher.png"
    Image.fromarray(scene(300, 400)[0]).save(path)
    (tmp_path / "kaputt.png").write_bytes(b"%PDF-1.7")
    with chromium.visit(locale="de-DE") as page:
        open_app(page, app)
        assert page.get_attribute("html", "lang") == "de"
        check_labels(page)
        assert page.inner_text("#result strong") == "Der Freisteller erscheint hier"
        page.set_input_files("#photo input[type=file]", str(path))
        page.wait_for_selector("#photo img", timeout=WAIT)
        page.click("#start")
        page.wait_for_selector("#result .stage", timeout=WAIT)
        page.wait_for_selector("#start", timeout=WAIT)
        assert page.inner_text("#start") == "Hintergrund entfernen"
        assert page.inner_text("[data-viewer=hold]") == "Halten für Original"
        assert "geschätzt" in page.inner_text("#facts")
        assert page.get_attribute("#result img.after", "alt") == "Der Freisteller von Becher"
        page.fill("#address textarea, #address input", "kein/Bild")
        page.click("#load")
        page.wait_for_selector("#message .notice.error", timeout=WAIT)
        assert page.inner_text("#message .notice").startswith("Dies ist keine gültige Webadresse.")
        page.set_input_files("#photo input[type=file]", str(tmp_path / "kaputt.png"))
        page.wait_for_selector("#message .notice:has-text('kaputt.png ist ein PDF-Dokument, kein Bild.')", timeout=WAIT)
        page.click("[role=tab]:has-text('Über')")
        page.wait_for_selector("#providers .card:has-text('Das Foto bleibt auf diesem Rechner.')", timeout=WAIT)
        assert "Ihre Bilder" in page.inner_text("body")
