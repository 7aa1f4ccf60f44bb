"""Loopback OpenID provider: the sign-in of Hugging Face, for one app and one account."""

from __future__ import annotations

import base64
import secrets
import time
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.servers.web import Exchange, Web

CLIENT, SECRET = "client-of-the-space", "secret-of-the-space"


class OpenId(Web):
    """Provider whose visitor is signed in at the hub already and is asked for permission only.

    Attributes
    ----------
    token : str
        Access token of the next sign-in.
    seconds : int
        Seconds until it expires.
    declined : bool
        The visitor does not give permission.
    fault : bool
        The exchange of a code for a token fails.
    asked : list of dict of str to str
        Parameters of each request for permission.
    codes : set of str
        Codes that have not been exchanged.
    """

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token, self.seconds = token, 3600
        self.declined = self.fault = False
        self.asked: list[dict[str, str]] = []
        self.codes: set[str] = set()
        self._key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})

    def answer(self, exchange: Exchange) -> None:
        url = urlsplit(exchange.path)
        if url.path == "/.well-known/openid-configuration":
            names = {"authorization_endpoint": "/oauth/authorize", "token_endpoint": "/oauth/token", "jwks_uri": "/oauth/jwks"}
            exchange.send_json(200, {"issuer": self.url, **{name: f"{self.url}{path}" for name, path in names.items()}})
        elif url.path == "/oauth/jwks":
            exchange.send_json(200, {"keys": [self._key.as_dict(private=False)]})
        elif url.path == "/oauth/authorize":
            self._authorize(exchange, {name: values[0] for name, values in parse_qs(url.query).items()})
        elif url.path == "/oauth/token":
            self._exchange(exchange)
        else:
            exchange.send(404)

    def _authorize(self, exchange: Exchange, parameters: dict[str, str]) -> None:
        self.asked.append(parameters)
        answer = {"error": "access_denied", "error_description": "The user denied the request"}
        if not self.declined:
            answer = {"code": secrets.token_urlsafe(16)}
            self.codes.add(answer["code"])
        separator = "&" if "?" in parameters["redirect_uri"] else "?"
        target = parameters["redirect_uri"] + separator + urlencode(answer | {"state": parameters["state"]})
        exchange.send(302, Location=target)

    def _exchange(self, exchange: Exchange) -> None:
        form = {name: values[0] for name, values in parse_qs(exchange.seen.body.decode()).items()}
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        asked = self.asked[-1]
        if self.fault:
            return exchange.send_json(400, {"error": "invalid_grant", "error_description": "The code has expired"})
        if exchange.headers.get("Authorization") != f"Basic {basic}":
            return exchange.send_json(401, {"error": "invalid_client"})
        if form["code"] not in self.codes or form["redirect_uri"] != asked["redirect_uri"]:
            return exchange.send_json(400, {"error": "invalid_grant"})
        self.codes.remove(form["code"])
        now = int(time.time())
        claims = {"iss": self.url, "sub": "1", "aud": CLIENT, "iat": now, "exp": now + 600, "nonce": asked["nonce"]}
        user = {"preferred_username": "ann", "name": "Ann", "profile": "https://huggingface.co/ann", "picture": ""}
        exchange.send_json(
            200,
            {
                "access_token": self.token,
                "token_type": "bearer",
                "expires_in": self.seconds,
                "scope": asked["scope"],
                "id_token": jwt.encode({"alg": "RS256", "kid": "1"}, claims | user, self._key),
            },
        )
