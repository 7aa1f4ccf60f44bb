"""Photo and results of a visit after a reload, their deletion, and the tokens that name a visit."""

from __future__ import annotations

import datetime
import gc
import secrets
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from rmbg.errors import CancelledError
from rmbg.providers import PROVIDERS
from rmbg.ui import visit
from rmbg.ui.components.inputs import Upload
from rmbg.ui.gradio_overrides import Visitors
from rmbg.ui.results import save
from rmbg.ui.session import TOKENS, Session, Tokens
from rmbg.ui.storage import VISITOR, storage
from tests.conftest import open_app
from tests.pictures import scene
from tests.ui.test_page import download, remove
from tests.ui.test_queue import BlockingProvider
from tests.ui.test_session import add, cutout

WAIT = 60_000


class Thing:
    """An object that can have a token."""


def token() -> str:
    return secrets.token_urlsafe(32)


def test_token_is_valid_once_and_ends_with_its_object():
    tokens: Tokens[Thing] = Tokens()
    old, new, other = Thing(), Thing(), Thing()
    first, second = token(), token()
    tokens.register(first, old)
    tokens.register(second, new)
    tokens.register(first, other)
    assert tokens.find(first) is old, "a token in use cannot be taken by another object"
    assert tokens.claim(first, new) is old
    assert tokens.claim(first, other) is None, "a token is valid once"
    assert tokens.find(second) is old, "the token of the new page names the object that it has taken over"
    tokens.revoke(old)
    assert tokens.find(second) is None
    tokens.register(first, new)
    del new
    gc.collect()
    assert tokens.find(first) is None
    for invalid in ("", "a" * 42, "a" * 44, "a" * 42 + " ", "a" * 42 + "\ud800"):
        tokens.register(invalid, other)
        assert tokens.find(invalid) is None


def test_claimed_session_has_the_files_and_the_limits_of_the_new_visitor(tmp_path):
    """The state of the old page is dropped later and must not remove what the new page has taken over."""
    visitors: Any = Visitors(10, 3600, lambda state: False)
    first, second = Session(), Session()
    visitors.session_data["old"] = SimpleNamespace(state_data={7: first, 8: "other"})
    VISITOR.set("old")
    first.move("old")
    folder = add(first, cutout(20, 20)).folder
    tokens = [token(), token()]
    TOKENS.register(tokens[0], first)
    VISITOR.set("new")
    second.move("new")
    TOKENS.register(tokens[1], second)
    try:
        with visitors.open_page("old"):
            assert visit.claim(f"~{tokens[0]}", second, visitors) is None, "the old page is open: its tab was duplicated"
        assert visit.claim(f"{token()} {'x' * 500} ~{tokens[0]}", second, visitors) is first
        assert visitors.session_data["old"].state_data == {8: "other"}
        assert first.owner == "new" and storage().bytes_of("old") == 0 and storage().bytes_of("new") > 0
        assert folder.exists() and TOKENS.find(tokens[1]) is first
        VISITOR.set("old")
        first.leave()  # a late response to the old page may have put the session into its state again
        assert folder.exists() and first.results
        used = Session()
        used.removals.start()
        assert visit.claim(tokens[1], used, visitors) is None, "a page in use keeps its session"
        first.clear()
        assert not folder.exists() and storage().bytes_of("new") == 0
        assert TOKENS.find(tokens[1]) is None and first.current is None and first.spend.line() == Session().spend.line()
    finally:
        VISITOR.set("")


def test_lifetime_of_a_visit_begins_when_its_page_is_closed():
    visitors: Any = Visitors(10, 3600, lambda state: False)
    visitors.blocks = SimpleNamespace(_queue=SimpleNamespace(event_ids_to_events={}))
    visitors.session_data["idle"] = SimpleNamespace(state_data={}, STATE_TTL_WHEN_CLOSED=3600)
    with visitors.open_page("idle"):
        visitors.time_last_used["idle"] = datetime.datetime.min  # no event for a long time
        visitors.delete_all_expired_state()
    visitors.delete_all_expired_state()
    assert "idle" in visitors.session_data


def test_cleared_session_has_no_photo(tmp_path):
    session = Session()
    session.photo = Upload(str(tmp_path / "a.png"), "a.png")
    session.clear()
    assert session.photo is None


def test_run_that_ends_after_the_deletion_adds_nothing(monkeypatch):
    """Neither before its files are written nor while they are."""
    session = Session()
    VISITOR.set("leaving")
    try:
        session.move("leaving")
        session.clear()
        with pytest.raises(CancelledError, match="were deleted"):
            add(session, cutout(20, 20))
        assert session.results == [] and session.current is None and storage().bytes_of("leaving") == 0
        other = Session()
        VISITOR.set("hurried")
        other.move("hurried")
        monkeypatch.setattr("rmbg.ui.results.save", lambda *args: (save(*args), other.clear())[0])
        with pytest.raises(CancelledError, match="were deleted"):
            add(other, cutout(20, 20))
        assert other.results == [] and storage().bytes_of("hurried") == 0 and not list(other.own_folder().iterdir())
    finally:
        VISITOR.set("")


def tokens_of(page: Any) -> list[str]:
    return page.evaluate("rmbgVisit.tokens()")


@pytest.mark.browser
def test_photo_and_results_survive_reloads_until_they_are_deleted(chromium, app, tmp_path, monkeypatch, request):
    paths = [tmp_path / "first.png", tmp_path / "second.png"]
    Image.fromarray(scene(300, 400)[0]).save(paths[0])
    Image.fromarray(scene(320, 420)[0]).save(paths[1])
    with chromium.visit() as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        open_app(page, app)
        remove(page, paths[0])
        page.click("#photo button[aria-label='Remove Image']")
        remove(page, paths[1])
        page.wait_for_function("document.querySelector('#facts').innerText.includes('420 × 320')", timeout=WAIT)
        used = tokens_of(page)[0]

        page.reload()
        page.reload()  # before the answer to the first one, or after it
        page.wait_for_function("document.querySelectorAll('#strip img').length === 2", timeout=WAIT)
        page.wait_for_selector("#photo img", timeout=WAIT)
        page.wait_for_function("document.querySelector('#facts').innerText.includes('420 × 320')", timeout=WAIT)
        page.wait_for_function("document.querySelector('#total').innerText.includes('2 pictures')", timeout=WAIT)
        page.wait_for_function("rmbgVisit.tokens()[1] === ''", timeout=WAIT)
        assert page.evaluate("[sessionStorage.length, document.cookie]") == [0, ""], "the token of an open page is not stored"
        saved = download(page, tmp_path)
        assert Image.open(saved).size == (420, 320) and saved.name == "second-cutout.png"
        assert not any(each in url for url in requests for each in (used, *filter(None, tokens_of(page))))

        # The first click after a reload is on the photo's clear button.
        page.click("#photo button[aria-label='Remove Image']")
        page.wait_for_selector("#result .viewer.empty", timeout=WAIT)
        page.wait_for_selector("#save:disabled", timeout=WAIT)
        page.set_input_files("#photo input[type=file]", str(paths[1]))
        page.wait_for_selector("#photo img", timeout=WAIT)

        # The result of a run that is active during a reload is shown as well.
        blocking = BlockingProvider()
        request.addfinalizer(blocking.release.set)  # a failure must not block the other tests
        monkeypatch.setitem(PROVIDERS, "builtin", blocking)
        page.click("#start")
        assert blocking.started.wait(120)
        page.reload()
        page.wait_for_selector("#cancel", timeout=WAIT)
        page.wait_for_function("document.querySelectorAll('#strip img').length === 2", timeout=WAIT)
        blocking.release.set()
        page.wait_for_function("document.querySelectorAll('#strip img').length === 3", timeout=WAIT)
        page.wait_for_selector("#start", timeout=WAIT)

        # Another tab of the same browser is another visit.
        other = page.context.new_page()
        open_app(other, app)
        assert other.query_selector("#strip img") is None
        other.close()

        owned, used = storage().bytes_of(), tokens_of(page)[0]
        page.click("#delete-all")
        page.click("#delete-yes")
        reloaded = "used => window.rmbgVisit && rmbgVisit.tokens()[0] && rmbgVisit.tokens()[0] !== used"
        page.wait_for_function(reloaded, arg=used, timeout=WAIT)
        page.wait_for_selector("#start", timeout=WAIT)
        assert page.query_selector("#result .stage") is None and page.query_selector("#photo img") is None
        assert storage().bytes_of() < owned
