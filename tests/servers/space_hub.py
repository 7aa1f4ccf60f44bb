"""Loopback Hugging Face Hub that accepts the upload of a Space: repository, secrets, variables, commits."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.servers.web import Exchange, Web

TOKEN = "hf_write_token"


class SpaceHub(Web):
    """Hub with one account, which may write to the repositories of `owner`.

    Attributes
    ----------
    files : dict of str to bytes
        Content of the Space after the last commit.
    secrets, variables : dict
    created : dict or None
        Body of the request that created the Space.
    hardware : str or None
    """

    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner
        self.files: dict[str, bytes] = {}
        self.secrets: dict[str, str] = {}
        self.variables: dict[str, str] = {}
        self.created: dict[str, Any] | None = None
        self.hardware: str | None = None

    def answer(self, exchange: Exchange) -> None:
        if exchange.headers.get("Authorization") != f"Bearer {TOKEN}":
            return exchange.send_json(401, {"error": "Invalid credentials"})
        path = exchange.path.partition("?")[0]
        if path == "/api/validate-yaml":
            return exchange.send_json(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            self.created = exchange.seen.json
            if self.created.get("organization", self.owner) != self.owner:
                return exchange.send_json(403, {"error": "You don't have the rights to create a space under this namespace"})
            return exchange.send_json(200, {"url": f"{self.url}/spaces/{self.owner}/{self.created['name']}"})
        prefix = "/api/spaces/"
        if not path.startswith(prefix):
            return exchange.send_json(404, {"error": "Not found"})
        owner, name, *rest = path.removeprefix(prefix).split("/")
        if owner != self.owner:
            return exchange.send_json(403, {"error": "Forbidden"})
        action = "/".join(rest)
        if exchange.command == "GET":
            return exchange.send_json(200, self._listing(action, f"{owner}/{name}"))
        body = exchange.seen.body
        if action == "secrets":
            self.secrets[exchange.seen.json["key"]] = exchange.seen.json["value"]
        elif action == "variables":
            self.variables[exchange.seen.json["key"]] = exchange.seen.json["value"]
            return exchange.send_json(200, {key: {"value": value} for key, value in self.variables.items()})
        elif action == "hardware":
            self.hardware = exchange.seen.json["flavor"]
            return exchange.send_json(200, {"stage": "BUILDING", "hardware": {"requested": self.hardware}})
        elif action == "preupload/main":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for file in exchange.seen.json["files"]
            ]
            return exchange.send_json(200, {"files": files})
        elif action == "commit/main":
            self._commit([json.loads(line) for line in body.splitlines()])
            oid = "0123456789abcdef0123456789abcdef01234567"
            url = f"{self.url}/spaces/{owner}/{name}/commit/{oid}"
            return exchange.send_json(200, {"success": True, "commitUrl": url, "commitOid": oid})
        else:
            return exchange.send_json(404, {"error": "Not found"})
        exchange.send_json(200, {})

    def _listing(self, action: str, repo: str) -> Any:
        if action.startswith("tree/"):
            return [{"type": "file", "path": path, "size": len(data), "oid": "0"} for path, data in sorted(self.files.items())]
        return {"id": repo, "siblings": [{"rfilename": path} for path in sorted(self.files)]}

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if line["key"] == "file":
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                self.files.pop(line["value"]["path"])
