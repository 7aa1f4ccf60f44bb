"""Languages of the page's fixed labels, chosen by the browser. Texts that the server renders are in English.

The key of a text is the text in English, which is shown in every other language.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

#: One file for each language, with the same keys.
FOLDER = Path(__file__).parent / "i18n"

#: Attributes of components that contain labels.
LABELS = ("label", "placeholder", "info")

#: Prefix of a label that `mark_labels` has marked, before a JSON object with its key.
MARK = "__i18n__"

#: Names of a language in the browser if they differ from the name of its file, as Gradio distinguishes them.
VARIANTS = {"zh": ("zh", "zh-CN", "zh-TW")}


def translations() -> dict[str, dict[str, str]]:
    """Return the texts of each language by key."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def languages() -> gr.I18n:
    """Return the languages in the form of Gradio."""
    return gr.I18n(**{name: texts for stem, texts in translations().items() for name in VARIANTS.get(stem, (stem,))})


def mark_labels(blocks: gr.Blocks) -> None:
    """Mark the labels of all components that have a translation; Gradio's page then shows them in the visitor's language."""
    known, marker = translations()["en"], gr.I18n()
    for block in blocks.blocks.values():
        for name in (*LABELS, "value") if isinstance(block, gr.Button) else LABELS:
            text: Any = getattr(block, name, None)
            if isinstance(text, str) and text in known:
                setattr(block, name, str(marker(text)))


def plain_text(label: str) -> str:
    """Return the English text of a label, which may be marked."""
    return str(json.loads(label.removeprefix(MARK))["key"]) if label.startswith(MARK) else label
