"""The official fal client against the loopback server, which validates the server's protocol."""

from __future__ import annotations

import base64

import pytest

from tests.remote import picture
from tests.servers.fal import Fal
from tests.servers.service import KEY, cut_out

fal_client = pytest.importorskip("fal_client")

REMOVE = "fal-ai/bria/background/remove"


@pytest.fixture
def fal(monkeypatch):
    with Fal() as service:
        # The client always uses https; only its URL formats can be replaced.
        monkeypatch.setattr("fal_client.client.QUEUE_URL_FORMAT", f"{service.url}/queue/")
        monkeypatch.setattr("fal_client.client.RUN_URL_FORMAT", f"{service.url}/run/")
        monkeypatch.setattr("fal_client.client.REST_URL", f"{service.url}/rest")
        monkeypatch.setattr("fal_client.client.CDN_URL", service.url)
        yield service


@pytest.fixture
def client(fal):
    return fal_client.SyncClient(key=KEY)


def arguments(**more) -> dict:
    return {"image_url": fal_client.encode(picture(), "image/png"), "sync_mode": True, **more}


def test_subscribe_reports_queue_states_and_logs(fal, client):
    states = []
    result = client.subscribe(REMOVE, arguments=arguments(), with_logs=True, on_queue_update=states.append)
    head, _, body = result["image"]["url"].partition(",")
    assert head == "data:image/png;base64" and base64.b64decode(body) == cut_out(picture())
    assert len(fal.jobs) == 1
    kinds = [type(state) for state in states]
    assert kinds[0] is fal_client.Queued and kinds[-1] is fal_client.Completed
    logs = [state.logs for state in states if isinstance(state, fal_client.InProgress)]
    assert logs[0][0]["message"] == "Loading the picture"


def test_submit_status_cancel_and_result(fal, client):
    handle = client.submit(REMOVE, arguments=arguments())
    assert handle.status() == fal_client.Queued(position=0)
    assert isinstance(handle.status(), fal_client.InProgress)
    handle.cancel()
    assert fal.cancelled == [handle.request_id]
    assert isinstance(handle.status(), fal_client.Completed)
    assert handle.get()["image"]["content_type"] == "image/png"


def test_upload_and_direct_run(fal, client):
    url = client.upload(picture(), "image/png")
    result = client.run(REMOVE, arguments={"image_url": url})
    assert result["image"]["url"].startswith(fal.url)
    replaced = client.run("fal-ai/bria/background/replace", arguments={"image_url": url, "prompt": "a wall", "num_images": 2})
    assert len(replaced["images"]) == 2 and replaced["seed"] == 4711


def test_errors_have_the_status_of_the_response(fal, client):
    fal.job_error = (422, {"detail": [{"loc": ["body"], "msg": "Too large", "type": "image_too_large"}]})
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.subscribe(REMOVE, arguments=arguments())
    assert caught.value.status_code == 422
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        fal_client.SyncClient(key="wrong:key").submit(REMOVE, arguments=arguments())
    assert caught.value.status_code == 401
