"""Languages of the page's labels."""

from __future__ import annotations

import pytest

from rmbg.ui import languages
from tests.conftest import open_app

WAIT = 90_000

#: Locale of a browser, and labels of photo, start button, download button, first tab and first view in its language.
EXPECTED = {
    "de-DE": ("Foto", "Hintergrund entfernen", "Herunterladen", "Entfernen", "Freisteller"),
    "zh-CN": ("照片", "移除背景", "下载", "移除", "抠图"),
    "pt-BR": ("Photo", "Remove background", "Download", "Remove", "Cutout"),
}


def test_languages_have_the_keys_of_english():
    texts = languages.translations()
    assert set(texts) == {"en", "de", "es", "fr", "zh", "ja"}
    english = texts.pop("en")
    assert all(key == text for key, text in english.items())
    for name, translated in texts.items():
        assert list(translated) == list(english), name
        assert all(text.strip() == text and text for text in translated.values()), name


@pytest.mark.browser
@pytest.mark.parametrize("locale", EXPECTED)
def test_labels_are_in_the_language_of_the_browser(chromium, app, locale):
    context = chromium.new_context(locale=locale, viewport={"width": 1440, "height": 900})
    try:
        page = context.new_page()
        open_app(page, app)
        photo, start, save, tab, view = EXPECTED[locale]
        page.wait_for_function("text => document.querySelector('#start').innerText === text", arg=start, timeout=WAIT)
        assert page.inner_text("#photo [data-testid=block-label]").strip() == photo
        assert page.inner_text("#save") == save
        assert page.locator("[role=tab]").first.inner_text() == tab
        assert page.locator("#view label").first.inner_text() == view
        shown = page.locator(".gradio-container").first.evaluate("element => element.outerHTML")
        assert "__i18n__" not in shown[: shown.find("<script")] + page.inner_text("body"), "every mark is replaced"
    finally:
        context.close()
