"""Texts of the page: privacy, limits, advice, and what a visitor sees first."""

from __future__ import annotations

import ast
import http.client
import logging
import pickle
import re
import subprocess
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from rmbg.billing import api_keys
from rmbg.errors import NotReadyError
from rmbg.images.decode import formats
from rmbg.providers import PROVIDERS, find
from rmbg.providers.base import Status
from rmbg.runtime.messages import NOT_SET_UP, Message, OwnerMessage, joined, megabytes, megapixels, public_text
from rmbg.settings import Settings
from rmbg.ui import languages
from rmbg.ui.components import load_photo, providers, viewer
from rmbg.ui.components.inputs import Upload
from rmbg.ui.guard.body import upload_limit
from rmbg.ui.session import Session
from rmbg.ui.tabs import removal
from tests.browser import DESKTOP, PHONE
from tests.command import PATIENCE, ROOT, save_scene
from tests.conftest import open_app
from tests.pictures import scene
from tests.processes import python
from tests.sentences import sentence

WAIT = 90_000
PRIVATE = Settings()
SHARED = Settings(shared=True, allow_hosts=("studio.example.org",))

#: Environment variables, commands and options of the command line. Names of photos such as IMG_2041.HEIC are none.
OWNERS = re.compile(
    r"\b(?:RMBG_[A-Z_]{3,}|HF_(?:TOKEN|HOME|ENDPOINT|HUB_OFFLINE)|[A-Z]+_API_KEY|FAL_KEY|TMPDIR)\b|\bpip install\b"
    r"|(?<!\S)--(?:retry|max-cost)\b"
)

#: Modules whose messages are not shown on the page: the command line, object stores, and checks at the start of the server.
ELSEWHERE = (
    "cli",
    "batch/cluster.py",
    "batch/sources.py",
    "ui/app.py",
    "ui/server.py",
    "ui/storage.py",
    "inference/engines.py",
)

#: Functions whose texts are parts of messages for the owner, which others of their module make.
ADVICE = ("_by_hand",)


def unmarked_messages(path: Path) -> list[str]:
    """Texts in a module that name a variable or an option of the command line and are not marked as those for the owner.

    A text is marked if its function makes an `OwnerMessage`, or passes it or its constant as ``owner=``.
    """
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body and isinstance(node.body[0], ast.Expr)
    }
    marked = {id(part) for node in ast.walk(tree) if is_mark(node, source) for part in ast.walk(node)}
    for function in functions:
        parts = [part for part in ast.walk(function) if not isinstance(part, ast.FunctionDef) or part is function]
        if function.name in ADVICE or any(is_mark(part, source) for part in parts):
            marked |= {id(part) for part in parts}
    found = []
    for node in ast.walk(tree):
        if id(node) in marked | inner | documentation:
            continue
        if isinstance(node, ast.JoinedStr):
            found.append("".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return [text for text in found if " " in text and OWNERS.search(text) and text.isprintable()]


def is_mark(node: ast.AST, source: str) -> bool:
    """True for a call that makes a message for the owner, and for the constant of such a text."""
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        return name in ("OwnerMessage", "_not_set_up", "_invalid") or any(keyword.arg == "owner" for keyword in node.keywords)
    names = [target.id for target in node.targets if isinstance(target, ast.Name)] if isinstance(node, ast.Assign) else []
    return any(f"owner={name}" in source for name in names)


def test_messages_mark_the_advice_for_the_owner_of_the_server():
    """All messages of the package that name an environment variable, pip or an option of the command line."""
    package = ROOT / "rmbg"
    paths = [p for p in package.rglob("*.py") if not str(p.relative_to(package).as_posix()).startswith(ELSEWHERE)]
    assert [f"{path.name}: {text}" for path in paths for text in unmarked_messages(path)] == []


def test_unmarked_messages_are_found(tmp_path):
    source = (
        """raise X("Set HF_TOKEN first.")\nraise X(f"RMBG_DEVICE is {value}.")\nraise X(OwnerMessage("Set HF_TOKEN.", Y))"""
    )
    (tmp_path / "module.py").write_text(source)
    assert unmarked_messages(tmp_path / "module.py") == ["Set HF_TOKEN first.", "RMBG_DEVICE is X."]


def test_messages_for_the_owner_are_logged_and_replaced(caplog):
    message = pickle.loads(pickle.dumps(OwnerMessage("RMBG_DEVICE is 'tpu' {x}.", NOT_SET_UP)))
    assert f"{message}" == "RMBG_DEVICE is 'tpu' {x}." and str(NotReadyError(message)) is message
    for text in (message, joined(message, "Stopped."), joined("Stopped.", message)):
        caplog.clear()
        assert not OWNERS.search(languages.visitor_text(text)) and "not set up here" in languages.visitor_text(text)
        assert "RMBG_DEVICE is 'tpu'" in caplog.text
    assert public_text(message, shared=False) == f"{message}" and "not set up here" in public_text(message, shared=True)
    status = Status("unavailable", OwnerMessage("RMBG_DEVICE is 'tpu'.", Message("not set up here")))
    assert languages.status_text(status) == "not set up here"


@pytest.mark.parametrize("settings", [PRIVATE, SHARED, Settings(environ={"HF_HUB_OFFLINE": "1"}), Settings(device="tpu")])
def test_descriptions_of_providers_have_no_advice_for_the_owner(settings):
    texts = [title for title, _ in providers.choices(settings)] + [providers.cards(settings)]
    texts += [providers.line(name, settings) for name in PROVIDERS]
    for text in texts:
        assert text.strip() and not OWNERS.search(text) and "; " not in text[-2:], text


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"RMBG_MAX_BYTES": "1000"}, "more than the limit of 0.001 MB. Resize it"),
        ({"RMBG_MAX_PIXELS": "1000"}, "more than the limit of 0.001 megapixels. Resize it"),
        ({"RMBG_DEVICE": "tpu"}, "not set up here"),
        ({"HF_HUB_OFFLINE": "1"}, "not set up here"),
    ],
    ids=["bytes", "pixels", "device", "weights"],
)
def test_errors_on_the_page_are_for_visitors(tmp_path, monkeypatch, caplog, variables, expected):
    path = save_scene(tmp_path / "IMG_2041.png")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    display = ("cutout", "transparent", "#ffffff", "#f8fafc", "#cbd5e1", None, False, 5.0)
    with caplog.at_level(logging.WARNING):
        *_, updates = removal.remove(None, Upload(str(path), path.name), "rmbg-1.4", "", {}, Session(), None, *display)
    notices = [update for update in updates if isinstance(update, str) and "notice error" in update]
    assert len(notices) == 1 and expected in notices[0] and "RMBG_" not in notices[0]
    assert bool(OWNERS.search(caplog.text)) == ("not set up" in expected), "the log names the cause"
    if "not set up" not in expected:
        assert expected in load_photo.check_upload(Upload(str(path), path.name))[1]


def test_missing_key_is_explained_without_variables():
    with pytest.raises(NotReadyError) as caught:
        api_keys.find("FAL_KEY", "fal", "", PRIVATE)
    assert "FAL_KEY" in str(caught.value), "the command line names the variable"
    assert viewer.notice(str(caught.value)).count("fal needs a key. Enter your own.") == 1
    assert "FAL_KEY" not in viewer.notice(str(caught.value))


# --- where the photo is processed ----------------------------------------------------------------------------------------


def test_data_use_depends_on_the_server():
    info = find("builtin").info
    assert providers.data_use(info, PRIVATE) == "The photo stays on this computer."
    shared = sentence(providers.data_use(info, SHARED))
    assert "on this server (studio.example.org)" in shared and "60 minutes after you close" in shared
    short = Settings.from_environ({"RMBG_SHARED": "1", "RMBG_KEEP_MINUTES": "5"})
    assert "5 minutes after you close" in sentence(providers.data_use(info, short))
    assert "this computer" not in providers.cards(SHARED) and "this server" not in providers.cards(PRIVATE)
    space = Settings(shared=True, environ={"SPACE_HOST": "someone-studio.hf.space"})
    assert providers.place(space) == "this server (someone-studio.hf.space)"
    assert providers.place(Settings(shared=True)) == "this server"
    remote = find("fal-rmbg-2.0").info
    assert providers.data_use(remote, SHARED) == remote.pixels


def test_price_and_license_are_in_front_only_if_they_matter():
    def front(name: str) -> str:
        return re.sub("<[^>]+>", " ", providers.line(name, PRIVATE).partition("<details>")[0])

    assert "Free." in front("builtin") and "$" not in front("builtin") and "MIT" not in front("builtin")
    assert "$" in providers.line("builtin", PRIVATE) and "MIT" in providers.line("builtin", PRIVATE)
    assert "Non-commercial" in front("rmbg-1.4") and "$" not in front("rmbg-1.4")
    assert "$0.018" in front("fal-rmbg-2.0") and "License" not in front("fal-rmbg-2.0")


# --- limits ----------------------------------------------------------------------------------------------------------------


def test_sizes_have_one_format():
    assert [megabytes(count) for count in (40_000_000, 50_000, 2_000_000_000)] == ["40 MB", "0.05 MB", "2,000 MB"]
    assert [megapixels(count) for count in (64_000_000, 64_008_000)] == ["64 megapixels", "64.01 megapixels"]


@pytest.mark.parametrize("limit", [Settings.max_bytes, 1_000_000, 250_000_000])
def test_limit_of_gradio_reads_as_ours(limit):
    """Gradio's page divides by 1024 * 1024 and shows one decimal."""
    assert f"{upload_limit(limit) / 1024**2:.1f}" == f"{limit / 1e6:.1f}"


def test_large_upload_is_rejected_with_the_limit_of_a_batch(app):
    connection = http.client.HTTPConnection(urlsplit(app).netloc, timeout=60)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", "900000000")
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413 and b"larger than the limit of 500 MB. Send fewer" in response.read()
    connection.close()


# --- the first ten seconds -------------------------------------------------------------------------------------------------


def check_first_screen(page: Any, size: dict[str, int]) -> None:
    """Check that the page explains itself and offers examples on the first screen."""
    page.wait_for_selector("#examples button img", timeout=WAIT)
    explanation = page.locator(".masthead p").inner_text()
    assert 20 <= len(explanation.split()) <= 35 and explanation.startswith("Drop a photo")
    boxes = {name: page.locator(name).first.bounding_box() for name in (".masthead p", "#photo", "#examples button")}
    assert all(box is not None and box["y"] + box["height"] <= size["height"] for box in boxes.values()), boxes
    assert boxes["#photo"]["y"] < boxes["#examples button"]["y"] < boxes["#photo"]["y"] + 420
    start = page.locator("#start").bounding_box()
    assert start["y"] + start["height"] <= 900 or size["width"] < 700
    assert page.locator("footer .divider >> visible=true").count() == 0, "no separator without a second link"


@pytest.mark.browser
def test_first_screen_explains_the_page_and_offers_examples(shared_page):
    check_first_screen(shared_page, DESKTOP)


@pytest.mark.browser
def test_first_screen_of_a_phone_and_the_place_of_the_photo(chromium, app, monkeypatch):
    with chromium.visit(PHONE) as page:
        open_app(page, app)
        check_first_screen(page, PHONE)
        line = page.locator("#provider-line")
        assert "Free. The photo stays on this computer." in line.inner_text() and "$" not in line.inner_text()
        line.locator("summary").click()
        page.wait_for_function("document.querySelector('#provider-line').innerText.includes('$')", timeout=WAIT)

        monkeypatch.setenv("RMBG_SHARED", "1")  # as when a reverse proxy is detected
        page.reload()
        page.wait_for_function(
            "document.querySelector('#provider-line')?.innerText.includes('on this server and deleted')", timeout=WAIT
        )


@pytest.mark.browser
def test_photo_of_an_iphone_is_shown_and_cut_out(shared_page, tmp_path):
    page = shared_page
    formats()
    path = tmp_path / "IMG_2041.HEIC"
    Image.fromarray(scene(300, 400)[0]).save(path, "HEIF", quality=90)
    page.set_input_files("#photo input[type=file]", str(path))
    page.wait_for_function("document.querySelector('#photo img')?.naturalWidth === 400", timeout=WAIT)
    page.click("#start")
    page.wait_for_selector("#result .stage", timeout=WAIT)
    assert "400 × 300" in page.inner_text("#facts")


# --- the terminal ----------------------------------------------------------------------------------------------------------


def test_address_is_printed_before_the_server_stops(tmp_path, monkeypatch):
    """To a pipe, which Python buffers."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.setenv("RMBG_DATA", str(tmp_path))
    command = python("-m", "rmbg", "serve")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        deadline = threading.Timer(PATIENCE, process.kill)
        deadline.start()
        try:
            assert any(b"http://127.0.0.1:" in line for line in iter(process.stdout.readline, b"")), "no address"
        finally:
            deadline.cancel()
            process.terminate()
