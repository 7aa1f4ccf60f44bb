"""Sign-in of visitors on a Space, through a loopback hub: the flow, its failures, and the use of the visitor's token."""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from rmbg.inference.catalog import MODELS
from tests.security.server import Running, Server, Visitor
from tests.sentences import sentence
from tests.servers.hub import Hub
from tests.servers.huggingface import TOKEN, Router

pytest.importorskip("authlib")
pytest.importorskip("itsdangerous")

from tests.servers.openid import CLIENT, SECRET, OpenId

HOST = "ann-studio.hf.space"

ENDPOINTS = {"/remove_background", "/compare", "/replace_background", "/batch", "/list_providers"}

#: Token of an account that has not accepted the license of any model.
OTHER_TOKEN = "hf_zyxwvutsrqponmlkjihgfedcba9876"


@dataclass
class Space:
    """The server and the services of its hub."""

    server: Server
    openid: OpenId
    router: Router
    hub: Hub
    folder: Path


@dataclass
class Browser:
    """Browser of a visitor, whose requests to the public address of the Space are sent to the server, as its proxy does."""

    space: Space
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def get(self, url: str) -> httpx.Response:
        target = urlsplit(url)
        own = target.netloc in ("", HOST)
        address = f"{self.space.server.url}{target.path}?{target.query}" if own else url
        headers = {"Cookie": self.header} if own and self.cookies else {}
        response = httpx.get(address, headers=headers, trust_env=False, timeout=60)
        for line in response.headers.get_list("set-cookie") if own else ():
            for name, morsel in SimpleCookie(line).items():
                assert morsel["secure"] and morsel["httponly"]
                if "1970" in morsel["expires"]:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        return response

    def follow(self, url: str) -> httpx.Response:
        """Follow redirects until a page is shown."""
        for _ in range(12):
            response = self.get(url)
            if not response.is_redirect or urlsplit(response.headers["location"]).path in ("/", ""):
                return response
            url = response.headers["location"]
        raise AssertionError(f"redirected too often, at last to {url}")

    def sign_in(self) -> httpx.Response:
        return self.follow("/login/huggingface?_target_url=/")


@pytest.fixture(scope="module")
def module_space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    folder = tmp_path_factory.mktemp("space")
    with OpenId(TOKEN) as openid, Router() as router, Hub() as hub:
        env = {
            "SYSTEM": "spaces",
            "SPACE_ID": "ann/studio",
            "SPACE_HOST": HOST,
            "OAUTH_CLIENT_ID": CLIENT,
            "OAUTH_CLIENT_SECRET": SECRET,
            "OAUTH_SCOPES": "openid profile inference-api gated-repos",
            "OPENID_PROVIDER_URL": openid.url,
            "RMBG_HF_URL": router.url,
            "RMBG_RESULT_HOSTS": f"127.0.0.1:{router.port}",
            "RMBG_LOG_LEVEL": "debug",
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "huggingface"),
            "HF_TOKEN": "",
        }
        server = Server(folder, entry=("app.py",), **env)
        server.command = [sys.executable, "app.py"]  # not a fork: Gradio reads the variables when it is imported
        with server:
            yield Space(server, openid, router, hub, folder)


@pytest.fixture
def space(module_space: Space) -> Iterator[Space]:
    yield module_space
    module_space.openid.token, module_space.openid.seconds = TOKEN, 3600
    module_space.openid.declined = module_space.openid.fault = False


def accept(visitor: Visitor) -> None:
    """Consent to the first paid call of the visit."""
    (button,) = (part for part, props in visitor.parts.items() if props.get("elem_id") == "remove-yes")
    event = next(event for event in visitor.events if event["backend_fn"] and [button, "click"] in event["targets"])
    visitor.call(event, {}).raise_for_status()


def remove(space: Space, name: str, provider: str, cookies: str = "") -> str:
    """Run a provider on the Remove tab, with consent, and return the messages as text."""
    photo = {"path": space.server.upload(), "orig_name": "photo.png", "meta": {"_type": "gradio.FileData"}}
    with Visitor(space.server.url, name, **({"Cookie": cookies} if cookies else {})) as visitor:
        event = visitor.event({"photo", "provider"}, {"strip"})
        values = {"photo": photo, "provider": provider}
        first = visitor.queued(event, values)
        if "This sends your photo" not in json.dumps(first):
            return html.unescape(json.dumps(first))
        accept(visitor)
        return html.unescape(json.dumps([first, visitor.queued(event, values)]))


def label(space: Space, name: str, cookies: str) -> str:
    """Return the label of the button after the page was loaded."""
    with Visitor(space.server.url, name, Cookie=cookies) as visitor:
        (button,) = (part for part, props in visitor.parts.items() if props.get("elem_id") == "sign-in")
        event = next(event for event in visitor.events if event["outputs"] == [button] and event["backend_fn"])
        return visitor.call(event, {}).raise_for_status().json()["data"][0]["value"]


def stored(space: Space, text: str) -> list[Path]:
    """Return the files below the folders of the server, its log included, that contain a text."""
    found = (path for path in space.folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return [path for path in found if text.encode() in path.read_bytes()]


def test_visitor_signs_in_and_out(space):
    browser = Browser(space)
    response = browser.sign_in()
    assert response.status_code == 307 and response.headers["location"] == "/"
    with space.server.client() as http:
        assert set(http.get("/gradio_api/info").json()["named_endpoints"]) == ENDPOINTS, "those of the sign-in are private"
    asked = space.openid.asked[-1]
    assert asked["client_id"] == CLIENT and asked["response_type"] == "code" and len(asked["state"]) > 20
    assert asked["redirect_uri"].startswith(f"https://{HOST}/login/callback?")
    assert set(asked["scope"].split()) == {"openid", "profile", "inference-api", "gated-repos"}
    assert space.openid.codes == set(), "the code was exchanged"
    assert label(space, "ann", browser.header) == "Logout (ann)"
    with space.server.client(Cookie=browser.header) as http:
        assert TOKEN not in http.get("/config").text and TOKEN not in http.get("/").text
    assert browser.get("/logout?_target_url=/").status_code == 307
    assert browser.cookies == {} and "Sign in" in label(space, "out", "session=")


def test_token_serves_the_calls_of_its_visitor_only(space):
    browser = Browser(space)
    browser.sign_in()
    jobs = len(space.router.jobs)
    signed_in = remove(space, "signed-in", "hf-rmbg-2.0", browser.header)
    assert "This sends your photo to Hugging Face" in signed_in and "unknown price" in signed_in
    assert len(space.router.jobs) == jobs + 1, signed_in
    assert any(seen.headers.get("authorization") == f"Bearer {TOKEN}" for seen in space.router.seen)
    for number, cookies in enumerate(("", "session=forged", browser.header[:-3] + "AAA")):
        text = remove(space, f"other-{number}", "hf-rmbg-2.0", cookies)
        assert "Hugging Face needs a key. Enter your own." in text, text
    assert len(space.router.jobs) == jobs + 1 and TOKEN not in signed_in
    assert stored(space, TOKEN) == [] and "hf-rmbg-2.0" in space.server.log.read_text(), "calls are logged, without the token"


def test_gated_weights_are_downloaded_for_the_visitor_who_may(space):
    model, hub = MODELS["rmbg-2.0"], space.hub
    hub.files[model.hub] = {model.file: b"no weights"}
    hub.gated, hub.token = True, TOKEN
    anonymous = remove(space, "anonymous", model.id)
    assert "needs a Hugging Face" in anonymous and set(hub.tokens) == {""}, anonymous
    space.openid.token = OTHER_TOKEN
    browser = Browser(space)
    browser.sign_in()
    refused = remove(space, "not-accepted", model.id, browser.header)
    assert "has not accepted the license of rmbg-2.0. Accept it at" in refused
    assert hub.tokens[-1] == OTHER_TOKEN and not list(space.folder.rglob(f"*{model.file}"))
    space.openid.token = TOKEN
    browser = Browser(space)
    browser.sign_in()
    answer = remove(space, "accepted", model.id, browser.header)
    assert hub.tokens[-1] == TOKEN and list(space.folder.rglob(f"*{model.file}")), answer
    seen = len(hub.tokens)
    remove(space, "anonymous-2", model.id)
    assert TOKEN not in hub.tokens[seen:], "the token of a visitor serves no other one"
    assert [path.name for path in stored(space, TOKEN) + stored(space, OTHER_TOKEN)] == []


def page_text(response: httpx.Response) -> str:
    """Return the sentence of the page of a failed sign-in."""
    assert response.headers["content-type"].startswith("text/html") and 'href="../"' in response.text
    (text,) = re.findall("<p>([^<]+)</p>", response.text)
    return sentence(html.unescape(text))


def test_declined_sign_in_is_one_sentence(space):
    space.openid.declined = True
    browser = Browser(space)
    response = browser.sign_in()
    assert response.status_code == 403 and page_text(response).startswith("The sign-in was declined at Hugging Face.")
    assert "Sign in" in label(space, "declined", browser.header)
    german = httpx.get(
        f"{space.server.url}/login/callback?error=access_denied", headers={"Accept-Language": "de"}, trust_env=False
    )
    assert 'lang="de"' in german.text and "abgelehnt" in page_text(german)


def test_code_that_is_not_accepted_is_one_sentence(space):
    space.openid.fault = True
    browser = Browser(space)
    response = browser.sign_in()
    assert response.status_code == 502 and page_text(response).startswith("Hugging Face did not complete the sign-in.")
    code = parse_qs(urlsplit(str(response.url)).query)["code"][0]
    assert stored(space, code) == [], "codes are not logged"


def test_state_of_another_browser_is_one_sentence(space):
    """A callback with the code of another sign-in is rejected, and a browser without cookies is redirected once."""
    attacker = Browser(space)
    login = attacker.get("/login/huggingface?_target_url=/")
    link = attacker.get(login.headers["location"]).headers["location"]
    victim = Browser(space)
    restarted = victim.get(link)
    assert urlsplit(restarted.headers["location"]).path == "/login/huggingface", "the sign-in starts again"
    response = victim.get(f"{link}&_nb_redirects=1")
    assert response.status_code == 400 and page_text(response).startswith("The sign-in could not be matched")
    assert "oauth_info" not in victim.header and "Sign in" in label(space, "victim", victim.header)

    class Forgetful(Browser):
        @property
        def header(self) -> str:
            return ""

    assert "could not be matched" in page_text(Forgetful(space).sign_in())


def test_expired_sign_in_is_one_sentence(space):
    space.openid.seconds = -60
    browser = Browser(space)
    browser.sign_in()
    jobs = len(space.router.jobs)
    text = remove(space, "expired", "hf-rmbg-2.0", browser.header)
    assert "Your sign-in with Hugging Face has expired. Reload the page and sign in again." in text
    assert len(space.router.jobs) == jobs and "Sign in" in label(space, "expired-2", browser.header)


def test_rejected_token_is_one_sentence(space):
    space.openid.token = OTHER_TOKEN
    browser = Browser(space)
    browser.sign_in()
    text = remove(space, "rejected", "hf-rmbg-2.0", browser.header)
    assert "Hugging Face rejected the token." in text and OTHER_TOKEN not in text


def test_sign_in_is_refused_elsewhere(app):
    assert Running(app).raw("GET", "/login/huggingface", Host=app.removeprefix("http://"))[0] == 404
