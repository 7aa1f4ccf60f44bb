"""Sign-in of visitors on a Space: redirect to the provider, and the visitor's token in the visitor's own calls only."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.security.server import Server, Visitor
from tests.servers.huggingface import TOKEN, Router
from tests.servers.web import Exchange

pytest.importorskip("authlib")
itsdangerous = pytest.importorskip("itsdangerous")

SECRET = "secret of the Space's OAuth app"

HOST = "ann-studio.hf.space"


class Hub(Router):
    """The hub as an OpenID provider as well."""

    def answer(self, exchange: Exchange) -> None:
        if exchange.path == "/.well-known/openid-configuration":
            names = {"authorization_endpoint": "/oauth/authorize", "token_endpoint": "/oauth/token", "jwks_uri": "/oauth/jwks"}
            urls = {name: f"{self.url}{path}" for name, path in names.items()}
            return exchange.send_json(200, {"issuer": self.url, **urls})
        super().answer(exchange)


def cookie(token: str) -> str:
    """Return the session cookie that Gradio sets after a sign-in."""
    user = {"preferred_username": "ann", "name": "Ann", "profile": "https://huggingface.co/ann", "picture": ""}
    info = {"access_token": token, "scope": "inference-api", "expires_at": int(time.time()) + 3600, "userinfo": user}
    signer = itsdangerous.TimestampSigner(hashlib.sha256(f"{SECRET}-v4".encode()).hexdigest())
    return signer.sign(base64.b64encode(json.dumps({"oauth_info": info}).encode())).decode()


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Hub]]:
    with Hub() as hub:
        env = {
            "SYSTEM": "spaces",
            "SPACE_ID": "ann/studio",
            "SPACE_HOST": HOST,
            "OAUTH_CLIENT_ID": "id",
            "OAUTH_CLIENT_SECRET": SECRET,
            "OAUTH_SCOPES": "openid profile inference-api gated-repos",
            "OPENID_PROVIDER_URL": hub.url,
            "RMBG_HF_URL": hub.url,
            "RMBG_RESULT_HOSTS": f"127.0.0.1:{hub.port}",
            "HF_TOKEN": "",
        }
        server = Server(tmp_path_factory.mktemp("space"), entry=("app.py",), **env)
        server.command = [sys.executable, "app.py"]  # not a fork: Gradio reads the variables when it is imported
        with server:
            yield server, hub


def accept(visitor: Visitor) -> None:
    """Consent to the first paid call of the visit."""
    (button,) = (part for part, props in visitor.parts.items() if props.get("elem_id") == "remove-yes")
    event = next(event for event in visitor.events if event["backend_fn"] and [button, "click"] in event["targets"])
    visitor.call(event, {}).raise_for_status()


def remove(server: Server, name: str, **headers: str) -> str:
    """Call the service on the Remove tab, with consent, and return the messages as text."""
    path = server.upload()
    photo = {"path": path, "orig_name": "photo.png", "meta": {"_type": "gradio.FileData"}}
    with Visitor(server.url, name, **headers) as visitor:
        event = visitor.event({"photo", "provider"}, {"strip"})
        values = {"photo": photo, "provider": "hf-rmbg-2.0"}
        first = visitor.queued(event, values)
        accept(visitor)
        return json.dumps([first, visitor.queued(event, values)])


def test_button_leads_to_the_provider(space):
    server, hub = space
    with server.client() as http:
        assert '"sign-in"' in http.get("/config").text
        response = http.get("/login/huggingface?_target_url=/")
    target = urlsplit(response.headers["location"])
    assert response.status_code == 302 and f"{target.scheme}://{target.netloc}{target.path}" == f"{hub.url}/oauth/authorize"
    assert parse_qs(target.query)["redirect_uri"][0].startswith(f"https://{HOST}/login/callback")


def test_token_serves_the_calls_of_its_visitor_only(space):
    server, hub = space
    signed_in = remove(server, "signed-in", Cookie=f"session={cookie(TOKEN)}")
    assert "This sends your photo to Hugging Face" in signed_in and "unknown price" in signed_in
    assert len(hub.jobs) == 1, signed_in
    assert any(seen.headers.get("authorization") == f"Bearer {TOKEN}" for seen in hub.seen)
    for other in ({}, {"Cookie": "session=forged"}):
        text = remove(server, f"other-{len(other)}", **other)
        assert "needs a key" in text or "your own" in text, text
    assert len(hub.jobs) == 1 and TOKEN not in signed_in and TOKEN not in server.log.read_text()
    with server.client(Cookie=f"session={cookie(TOKEN)}") as http:
        assert TOKEN not in http.get("/config").text


def test_sign_in_is_refused_elsewhere(app):
    from tests.security.server import Running

    assert Running(app).raw("GET", "/login/huggingface", Host=app.removeprefix("http://"))[0] == 404
