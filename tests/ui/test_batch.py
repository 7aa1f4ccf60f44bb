"""Batches of visitors: limits and hostile uploads, runs, costs, and the API endpoint /batch."""

from __future__ import annotations

import html
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from rmbg.batch.plan import Recipe
from rmbg.billing.cost import Cost
from rmbg.errors import InputError, NotReadyError, OutputError
from rmbg.images import encode
from rmbg.providers import PROVIDERS
from rmbg.providers.base import Option
from rmbg.render.backgrounds import parse_background
from rmbg.settings import Settings
from rmbg.ui import pictures
from rmbg.ui.batch import MAX_DIRECTORY_BYTES, Batch, UploadSource
from rmbg.ui.components.inputs import Upload
from rmbg.ui.session import Session
from rmbg.ui.storage import storage
from rmbg.ui.tabs import batch
from tests.benchmark.fakes import Fake
from tests.disc import save_photo
from tests.pictures import scene
from tests.remote import environment
from tests.sentences import sentence
from tests.servers.runware import Runware
from tests.servers.service import KEY
from tests.servers.web import until

PNG = encode.FORMATS["png"]


def png(number: int = 0, size: tuple[int, int] = (60, 40)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.roll(scene(size[1], size[0])[0], number, axis=1)).save(out, "PNG")
    return out.getvalue()


def zipped(folder: Path, files: dict[str, bytes], name: str = "photos.zip") -> Upload:
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for member, data in files.items():
            packed.writestr(member, data)
    return Upload(str(path), name)


def uploads(folder: Path, count: int) -> list[Upload]:
    return [Upload(str(save_photo(folder / str(i) / f"{i}.png", i)), f"{i}.png") for i in range(count)]


def recipe(name: str, background: str = "transparent", **options: Any) -> Recipe:
    provider = PROVIDERS[name]
    return Recipe(provider, provider.info.parse_options(options), PNG, parse_background(background))


def run(batch: Batch, chosen: Recipe, names: frozenset[str] | None = None) -> None:
    batch.start(batch.prepare(chosen, names))
    batch.join()


class Tuned(Fake):
    """Provider with an option, whose values it records."""

    def __init__(self, name: str, *arguments: Any, **more: Any) -> None:
        super().__init__(name, *arguments, **more)
        self.info = replace(self.info, options=(Option("level", "Level", 0.5, minimum=0, maximum=1),))
        self.levels: list[float] = []

    def cut(self, photo: Any, options: Any, call: Any) -> Any:
        self.levels.append(options["level"])
        return super().cut(photo, options, call)


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> Tuned:
    found = Tuned("tuned")
    monkeypatch.setitem(PROVIDERS, "tuned", found)
    return found


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fake]:
    found = {
        "near": Fake("near", price="0.0001", nothing={"2"}),
        "far": Fake("far", "remote", "0.02", fail={"broken"}),
        "murky": Fake("murky", "remote"),
    }
    for name, fake in found.items():
        monkeypatch.setitem(PROVIDERS, name, fake)
    return found


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session()
    yield session
    session.close()


# --- uploads ---------------------------------------------------------------------------------------------------------------


def test_equal_names_and_paths_of_archives_are_kept_apart(tmp_path):
    photos = [Upload(str(save_photo(tmp_path / str(i) / "a.png", i)), name) for i, name in enumerate(["a.png", "x/A.PNG"])]
    packed = zipped(tmp_path, {"a.png": png(2), "sub/a.png": png(3), "../../evil.png": png(), "notes.txt": b"text"})
    source = UploadSource([*photos, packed], Settings())
    entries = source.entries()
    assert [entry.name for entry in entries] == ["a.png", "A-2.PNG", "evil.png", "a-3.png", "sub/a.png"]
    assert [entry.name for entry in entries if entry.problem] == ["evil.png"]
    assert all(".." not in entry.target and not entry.target.startswith("/") for entry in entries)
    assert source.read(entries[4]) == png(3)
    assert source.path(entries[0]) == photos[0].path and source.path(entries[4]) is None


def bomb(folder: Path) -> Upload:
    """A zip of a few kilobytes whose pictures unpack to 30 MB each."""
    return zipped(folder, {f"{i}.png": bytes(30_000_000) for i in range(2)})


def long_directory(folder: Path) -> Upload:
    return zipped(folder, {f"{'n' * 200}{i}.png": b"" for i in range(MAX_DIRECTORY_BYTES // 240)})


def damaged(folder: Path) -> Upload:
    path = folder / "photos.zip"
    path.write_bytes(b"PK\x03\x04" + bytes(500))
    return Upload(str(path), "photos.zip")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: [], "Choose photos"),
        (lambda folder: uploads(folder, 6), "more than 5 photos"),
        (lambda folder: [bomb(folder)], "60 MB together, more than the limit of 50 MB"),
        (lambda folder: [long_directory(folder)], "too many entries"),
        (lambda folder: [damaged(folder)], "not a valid zip archive"),
        (lambda folder: [zipped(folder, {"notes.txt": b"text"})], "no picture"),
    ],
    ids=["none", "many", "bomb", "directory", "damaged", "empty"],
)
def test_upload_beyond_the_limits_is_rejected(tmp_path, make: Callable[[Path], list[Upload]], words):
    settings = Settings(batch_files=5, batch_bytes=50_000_000)
    with pytest.raises(InputError) as caught:
        UploadSource(make(tmp_path), settings)
    assert words in sentence(str(caught.value)) and str(tmp_path) not in str(caught.value)


# --- runs ------------------------------------------------------------------------------------------------------------------


def test_rows_have_state_cost_and_reason(tmp_path, fakes, session):
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    batch = session.new_batch([*uploads(tmp_path, 3), Upload(str(text), "notes.png")])
    run(batch, recipe("near"))
    rows = {row.name: row for row in batch.rows}
    assert [row.state for row in batch.rows] == ["done", "done", "nothing", "failed"]
    assert rows["0.png"].cost == Cost(Decimal("0.0001"), "estimated") and rows["0.png"].seconds == 0.25
    assert batch.doubtful == {"2.png"} and "not a picture" in rows["notes.png"].message
    assert not any(str(tmp_path) in row.message for row in batch.rows)
    name, data = batch.result(rows["0.png"])
    assert name == "0.png" and Image.open(io.BytesIO(data)).mode == "RGBA"
    assert Image.open(rows["0.png"].thumbnail).format == "WEBP"
    assert "Near: 2 pictures" in session.spend.line()
    cutout, upload = batch.cutout("0.png")
    assert cutout.confidence is None and upload.path == batch.uploads[0].path and len(fakes["near"].calls) == 3

    run(batch, recipe("far"), batch.doubtful)  # another provider for the doubtful one only
    assert fakes["far"].calls == ["2"] and batch.rows[2].provider == "far" and not batch.doubtful
    assert batch.rows[2].cost == Cost(Decimal("0.02"), "charged") and batch.rows[0].provider == "near"


def test_paid_batch_is_paid_for_once_and_within_the_estimate(tmp_path, fakes, session):
    batch = session.new_batch(uploads(tmp_path, 4))
    request = batch.prepare(recipe("far"))
    assert (request.photos, str(request.estimate)) == (4, "about $0.08")
    info = fakes["far"].info
    fakes["far"].info = replace(info, price=replace(info.price, usd=Decimal("0.03"), counted=Decimal("0.03")))
    fakes["far"].price = Decimal("0.03")
    batch.start(request)
    batch.join()
    assert len(fakes["far"].calls) == 2 and batch.halted, "the third call could exceed the accepted amount"
    assert "limit of $0.08 is reached" in batch.message and "--" not in batch.message
    assert batch.prepare(recipe("far")).photos == 2
    run(batch, recipe("far"))
    assert sorted(fakes["far"].calls) == ["0", "1", "2", "3"]
    run(batch, recipe("far", "#ffffff"))
    assert len(fakes["far"].calls) == 4 and not batch.halted, "another background is rendered from the paid matte"
    assert np.asarray(Image.open(batch.folder / "0.png")).shape[2] == 3
    assert batch.rows[0].cost == Cost(Decimal("0.03"), "charged") and batch.rows[0].seconds == 0.25
    assert not batch.prepare(recipe("far", "#ffffff")).tasks


def test_another_background_does_not_run_a_local_provider_again(tmp_path, fakes, session):
    batch = session.new_batch(uploads(tmp_path, 2))
    run(batch, recipe("near"))
    run(batch, recipe("near", "#00ff00"))
    assert len(fakes["near"].calls) == 2 and [row.state for row in batch.rows] == ["done", "done"]
    assert Image.open(batch.folder / "0.png").mode == "RGB"
    assert batch.rows[0].seconds == 0.25 and batch.rows[0].cost == Cost(Decimal("0.0001"), "estimated")
    assert "Near: 2 pictures" in session.spend.line()


def test_key_of_the_visitor_and_budget_of_the_server(tmp_path, session, monkeypatch):
    with Runware() as service:
        service.key = "the-visitors-own-key"
        for name, value in environment(service, tmp_path / "data", RMBG_DAILY_BUDGET_USD="0.002").items():
            monkeypatch.setenv(name, value)
        batch = session.new_batch(uploads(tmp_path, 4))
        batch.start(batch.prepare(recipe("runware-rembg-1.4")), service.key)
        batch.join()
        assert len(service.jobs) == 4 and not batch.halted, "the budget is that of the server's keys"
        stored = [path.read_bytes() for folder in (batch.folder, tmp_path) for path in folder.rglob("*") if path.is_file()]
        assert stored and not any(service.key.encode() in data for data in stored)
        service.key = KEY
        others = session.new_batch(uploads(tmp_path / "others", 4))
        run(others, recipe("runware-rembg-1.4"))
        assert len(service.jobs) == 5 and others.halted and "a day for the keys" in others.message
        assert "RMBG_" not in others.message and [row.state for row in others.rows].count("done") == 1


def test_failed_second_attempt_keeps_the_first_result(tmp_path, fakes, session):
    path = save_photo(tmp_path / "broken.png")
    batch = session.new_batch([Upload(str(path), "broken.png")])
    run(batch, recipe("near"))
    run(batch, recipe("far"))
    (row,) = batch.rows
    assert (row.state, row.provider) == ("done", "near") and "Far failed" in row.message
    assert batch.result(row)[0] == "broken.png"


def test_question_belongs_to_one_run(tmp_path, fakes, session):
    """An accepted batch does not permit the next one of the same size, and nothing runs without an answer."""
    settings = ("far", "", {}, "png", "transparent", "#ffffff", False)
    photos = uploads(tmp_path, 2)
    message, *_ = batch.start(session, photos, *settings)
    assert "sends 2 photos to Far. Expected charge for all: about $0.04." in message and not fakes["far"].calls
    batch.decline(session)
    message, *_ = batch.confirm(session, "", {}, False)
    assert "Start the batch again" in message and not fakes["far"].calls
    batch.start(session, photos, *settings)
    batch.confirm(session, "", {}, False)
    session.batch.join()
    assert len(fakes["far"].calls) == 2
    others = uploads(tmp_path / "others", 2)
    message, *_ = batch.start(session, others, *settings)
    assert "Expected charge" in message and len(fakes["far"].calls) == 2
    message, *_ = batch.start(session, others, "murky", *settings[1:])
    assert "an unknown price at Murky" in message and not fakes["murky"].calls


def test_changed_options_run_the_provider_again(tmp_path, tuned, session):
    batch = session.new_batch(uploads(tmp_path, 2))
    run(batch, recipe("tuned", level=0.2))
    run(batch, recipe("tuned", "#00ff00", level=0.2))
    assert tuned.levels == [0.2] * 2, "another background is rendered from the matte"
    run(batch, recipe("tuned", "#00ff00", level=0.8))
    assert tuned.levels == [0.2] * 2 + [0.8] * 2 and not batch.prepare(recipe("tuned", "#00ff00", level=0.8)).tasks


def test_options_of_the_tab_reach_the_provider_and_belong_to_the_consent(tmp_path, tuned, session, monkeypatch):
    settings = ("png", "transparent", "#ffffff", False)
    batch.start(session, uploads(tmp_path, 2), "tuned", "", {"level": 0.9}, *settings)
    session.batch.join()
    assert tuned.levels == [0.9] * 2
    message, *_ = batch.start(session, [], "tuned", "", {"level": 7}, *settings)
    assert "level is '7'" in html.unescape(message) and len(tuned.levels) == 2

    paid = Tuned("paid", "remote", "0.02")
    monkeypatch.setitem(PROVIDERS, "paid", paid)
    batch.start(session, [], "paid", "", {"level": 0.1}, *settings)
    message, *_ = batch.confirm(session, "", {"level": 0.2}, False)
    assert "settings have changed" in message and not paid.calls
    message, *_ = batch.confirm(session, "", {"level": 0.1}, False)
    assert "Start the batch again" in message and not paid.calls, "the question was withdrawn"
    batch.start(session, [], "paid", "", {"level": 0.1}, *settings)
    batch.confirm(session, "", {"level": 0.1}, False)
    session.batch.join()
    assert paid.levels == [0.1] * 2


def test_results_stay_within_the_quota_of_the_visitor(tmp_path, fakes, session, monkeypatch):
    photos = [Upload(str(save_photo(tmp_path / f"{i}.png", i, (150, 150))), f"{i}.png") for i in range(6)]
    monkeypatch.setattr(storage(), "session_bytes", 8_500_000)
    monkeypatch.setattr("rmbg.batch.paid.MIN_FREE_BYTES", 0)
    kept = session.download(b"data", "kept.png")
    batch = session.new_batch(photos)
    run(batch, recipe("far"))
    results = [row for row in batch.rows if row.file]
    assert 0 < len(results) < 6 and batch.halted and "more disk space" in sentence(batch.message)
    assert len(fakes["far"].calls) <= len(results) + 4, "no photo is sent without space for its result"
    assert Path(kept).is_file(), "a batch evicts nothing"
    assert pictures.write(session.owner, (batch.result(row) for row in results)), "the archive has space"


def test_stopped_batch_continues_and_closed_one_leaves_no_files(tmp_path, monkeypatch, session):
    slow = Fake("slow", wait=0.3)
    monkeypatch.setitem(PROVIDERS, "slow", slow)
    batch = session.new_batch(uploads(tmp_path, 40))
    batch.start(batch.prepare(recipe("slow")))
    with pytest.raises(NotReadyError, match="still running"):
        batch.prepare(recipe("slow"))
    assert until(lambda: any(row.state == "done" for row in batch.rows), 60)
    batch.cancel()
    batch.join()
    done = [row.name for row in batch.rows if row.file]
    assert 0 < len(done) < 40 and "Press Remove all backgrounds to continue" in batch.message
    batch.start(batch.prepare(recipe("slow")))
    assert until(lambda: len([row for row in batch.rows if row.file]) > len(done), 60)
    assert slow.most_at_once == 1, "the device is used by one photo at a time"
    folder = batch.folder
    session.close()
    batch.join()
    assert not folder.exists()


def test_photos_of_others_take_their_turn_between_those_of_a_batch(tmp_path, monkeypatch, session):
    """The device is free for another visitor before the end of a batch; services do not use it."""
    from rmbg.ui.lanes import DEVICE

    slow = Fake("slow", wait=0.2)
    monkeypatch.setitem(PROVIDERS, "slow", slow)
    batch = session.new_batch(uploads(tmp_path, 60))
    batch.start(batch.prepare(recipe("slow")))
    assert until(lambda: slow.calls, 60)
    with DEVICE.turn(lambda: None):
        assert len(slow.calls) < 60 and slow.at_once == 0
        service = Fake("service", "remote", "0")
        monkeypatch.setitem(PROVIDERS, "service", service)
        other = Session()
        batch_of_other = other.new_batch(uploads(tmp_path / "other", 3))
        run(batch_of_other, recipe("service"))
        assert len(service.calls) == 3, "services do not wait for the device"
        other.close()
    session.close()
    batch.join()


# --- API -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(app: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(app, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


def files(folder: Path, count: int) -> list[Any]:
    return [handle_file(upload.path) for upload in uploads(folder, count)]


def test_endpoint_streams_rows_and_returns_a_zip(client, tmp_path, fakes):
    packed = zipped(tmp_path, {"sub/a.png": png(5), "../b.png": png(6)})
    before = len(list(storage().root.folder.glob("batch-*")))
    job = client.submit(
        images=[*files(tmp_path, 3), handle_file(packed.path)], provider="near", background="#00ff00", api_name="/batch"
    )
    table, file = job.result(timeout=120)
    assert [row["state"] for row in table] == ["done", "done", "nothing", "failed", "done"]
    assert table[0]["cost"] == {"usd": 0.0001, "basis": "estimated"} and table[0]["provider"] == "near"
    with zipfile.ZipFile(file) as results:
        assert results.namelist() == [row["file"] for row in table if row["file"]] == ["0.png", "1.png", "sub/a.png"]
        assert Image.open(io.BytesIO(results.read("0.png"))).mode == "RGB"
    streamed = [rows for rows, path in job.outputs() if path is None]
    assert streamed and {row["state"] for row in streamed[0]} <= {"new", "done", "nothing", "failed"}
    assert until(lambda: len(list(storage().root.folder.glob("batch-*"))) == before, 60), "the files of the call are removed"


def test_options_and_key_of_a_caller(client, tmp_path, tuned, monkeypatch):
    client.predict(images=files(tmp_path, 2), provider="tuned", options='{"level": 0.75}', api_name="/batch")
    assert tuned.levels == [0.75] * 2
    with Runware() as service:
        service.key = "the-callers-own-key"
        for name, value in environment(service, tmp_path / "data", RUNWARE_API_KEY="").items():
            monkeypatch.setenv(name, value)
        caller = Client(client.src, verbose=False, headers={"X-Runware-Api-Key": service.key})
        table, _ = caller.predict(
            images=files(tmp_path, 2),
            provider="runware-rembg-1.4",
            confirm_paid=True,
            options='{"postProcessMask": true}',
            api_name="/batch",
        )
    assert [row["state"] for row in table] == ["done", "done"], table
    assert [job["task"]["settings"]["postProcessMask"] for job in service.jobs] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"provider": "far"}, r"expected to cost about \$0\.04\. Set confirm_paid"),
        ({"alpha_matting": "best"}, "method is 'best'; it must be one of closed-form, vitmatte"),
        ({"provider": "murky"}, "an unknown price at Murky. Set confirm_paid"),
        ({"options": '{"level": 1}'}, "near has no option 'level'"),
        ({"background": "/etc/hostname"}, "is not a background"),
        ({"provider": "far", "max_cost": -1}, "max_cost is -1; it must be an amount"),
        ({"provider": "murky", "max_cost": 1}, "does not report its charges"),
        ({"images": []}, "Choose photos"),
        ({"images": 4}, "more than 3 files"),
    ],
    ids=["paid", "matting", "unknown price", "option", "path", "limit", "no limit", "none", "many"],
)
def test_invalid_call_is_reported_before_any_provider_runs(client, tmp_path, fakes, monkeypatch, arguments, message):
    monkeypatch.setenv("RMBG_BATCH_FILES", "3")
    given = {"images": files(tmp_path, 2), "provider": "near", **arguments}
    if given["images"] == 4:
        given["images"] = files(tmp_path, 4)
    with pytest.raises(AppError, match=message):
        client.predict(**given, api_name="/batch")
    assert not any(fake.calls for fake in fakes.values())


def test_limit_of_the_charges(client, tmp_path, fakes):
    given = {"images": files(tmp_path, 3), "provider": "far", "max_cost": 0.04, "api_name": "/batch"}
    with pytest.raises(AppError, match=r"expected to cost about \$0\.04\. Set confirm_paid"):
        client.predict(**given)
    table, _ = client.predict(**given, confirm_paid=True)
    assert sorted(row["state"] for row in table) == ["done", "done", "new"] and len(fakes["far"].calls) == 2
    (left,) = (row for row in table if row["state"] == "new")
    assert "limit of $0.04 is reached" in left["message"]


def test_paid_results_of_a_cancelled_call_are_kept(client, tmp_path, monkeypatch):
    go = threading.Event()

    class Held(Fake):
        def cut(self, photo: Any, options: Any, call: Any) -> Any:
            if self.calls:
                until(lambda: go.is_set() or call.cancelled(), 60)
            return super().cut(photo, options, call)

    monkeypatch.setenv("RMBG_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(PROVIDERS, "held", Held("held", "remote", "0.02"))
    job = client.submit(images=files(tmp_path, 2), provider="held", confirm_paid=True, api_name="/batch")
    assert until(lambda: any(row["state"] == "done" for rows, _ in job.outputs() for row in rows), 60)
    job.cancel()
    go.set()  # a call that is being paid for is finished
    assert until(lambda: len(list(tmp_path.glob("data/recovered/*.png"))) == 2, 60)


def test_message_has_no_path_of_the_server(tmp_path, fakes, session, monkeypatch):
    batch = session.new_batch(uploads(tmp_path, 1))

    def full(path: Path, data: bytes) -> None:
        raise OutputError(f"{path} could not be written: No space left on device.")

    monkeypatch.setattr("rmbg.runtime.files.write", full)
    with pytest.raises(OutputError) as caught:
        batch.prepare(recipe("near"))
    text = str(caught.value)
    assert "could not be written" in text and str(storage().root.folder) not in text and "disk of this server" in text
