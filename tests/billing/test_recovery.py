"""The recovery folder for paid results whose delivery failed."""

from __future__ import annotations

import tempfile
from decimal import Decimal

import pytest

from rmbg.billing import recovery
from rmbg.billing.cost import Cost
from rmbg.errors import OutputError
from rmbg.settings import Settings
from tests.sentences import sentence

COST = Cost(Decimal("0.018"), "charged")


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def deliver(settings: Settings, error: BaseException, *names: str) -> None:
    with recovery.kept(lambda: {name: name.encode() for name in names}, COST, settings):
        raise error


def test_one_file(tmp_path):
    with pytest.raises(OutputError) as caught:
        deliver(Settings(data=tmp_path), OSError(28, "No space left on device"), "cat.png")
    (file,) = (tmp_path / "recovered").iterdir()
    assert file.read_bytes() == b"cat.png" and file.suffix == ".png" and file.name.startswith("cat-")
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert sentence(caught.value) == (
        "The output cannot be written: No space left on device. The result was paid for ($0.018 charged) and is kept as "
        f"{file}."
    )
    assert caught.value.cost == COST


def test_several_files_and_the_same_name_again(tmp_path):
    for _ in range(2):
        with pytest.raises(OutputError, match=r"Disk\. The 2 results were paid for .* and are kept in .*recovered\.$"):
            deliver(Settings(data=tmp_path), OutputError("Disk."), "a.png", "b.png")
    assert len(list((tmp_path / "recovered").iterdir())) == 4


@pytest.mark.parametrize(
    "name", ["../../x.png", "/etc/passwd", ".hidden", "a" * 300 + ".png", "ein Bild – 図.png", "..", "\0.png"]
)
def test_file_names_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(OutputError):
        deliver(Settings(data=tmp_path / "data"), OutputError("Disk."), name)
    (file,) = (tmp_path / "data" / "recovered").iterdir()
    assert file.read_bytes() == name.encode() and not file.name.startswith(".")


def test_shared_server_discloses_no_path_and_uses_the_temporary_folder(tmp_path, temporary):
    with pytest.raises(OutputError) as caught:
        deliver(Settings(data=tmp_path / "data", shared=True), OutputError("Disk."), "cat.png")
    assert not (tmp_path / "data").exists() and len(list(temporary.rglob("*.png"))) == 1
    assert str(tmp_path) not in str(caught.value) and "operator" in str(caught.value)


def test_neither_folder_is_writable(tmp_path, temporary):
    (tmp_path / "data").write_bytes(b"")
    temporary.rmdir()
    with pytest.raises(OutputError) as caught:
        deliver(Settings(data=tmp_path / "data"), OutputError("Disk."), "cat.png")
    assert "paid for ($0.018 charged) and could not be saved elsewhere" in sentence(caught.value)


def test_interrupt(tmp_path):
    with pytest.raises(KeyboardInterrupt, match=r"Stopped\. The result was paid for"):
        deliver(Settings(data=tmp_path), KeyboardInterrupt(), "cat.png")


def test_delivered_result_is_not_saved(tmp_path):
    with recovery.kept(lambda: {"cat.png": b"x"}, COST, Settings(data=tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "tmp"]
