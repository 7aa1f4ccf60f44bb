"""Data sets: folders and zip archives, invalid and hostile files."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from rmbg.benchmark.dataset import open_dataset
from rmbg.errors import InputError
from rmbg.settings import Settings
from tests.benchmark.shapes import chair

SETTINGS = Settings.from_environ({})


def png(pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


MATTE = (chair()[:120, :160] * 255).astype(np.uint8)
PHOTO = png(np.dstack([MATTE, MATTE, 255 - MATTE]))
TRUTH = png(MATTE)
GOOD = {"shop/im/a.png": PHOTO, "shop/gt/a.png": TRUTH, "people/im/b.png": PHOTO, "people/gt/b.png": TRUTH}


def folder(root, files):
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def archive(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


def test_a_folder_and_a_zip_of_it_hold_the_same_samples(tmp_path):
    one = open_dataset(folder(tmp_path / "set", GOOD), settings=SETTINGS)
    other = open_dataset(archive(tmp_path / "set.zip", {f"set/{name}": data for name, data in GOOD.items()}), settings=SETTINGS)
    assert one.name == other.name == "set"
    assert [sample.id for sample in one.samples] == ["people/b", "shop/a"] == [sample.id for sample in other.samples]
    assert [sample.digest for sample in one.samples] == [sample.digest for sample in other.samples]
    assert one.categories == ("people", "shop")
    for sample in (one.samples[0], other.samples[0]):
        assert sample.photo(SETTINGS).name == "b"
        assert np.array_equal(sample.truth(SETTINGS), MATTE.astype(np.float32) / np.float32(255))


def test_system_files_are_ignored(tmp_path):
    extra = {"__MACOSX/shop/im/._a.png": b"x", "shop/im/.DS_Store": b"x", "shop/im/Thumbs.db": b"x", "manifest.csv": b"x"}
    assert len(open_dataset(archive(tmp_path / "set.zip", {**GOOD, **extra}), settings=SETTINGS).samples) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shop/gt/a.png": None}, "shop/im/a.png has no true matte in gt"),
        ({"shop/im/a.png": None}, "shop/gt/a.png has no photo in im"),
        ({"shop/im/a.webp": PHOTO}, "have the same stem"),
        ({"shop/im/notes.txt": b"x"}, "shop/im/notes.txt is not a picture"),
        ({"shop/im/a.png": b"not a picture"}, "shop/im/a.png is not a picture that can be opened"),
        ({"shop/gt/a.png": png(MATTE[:50])}, "shop/im/a.png is 160 x 120 pixels and its matte 160 x 50"),
        ({"shop/gt/a.png": png(np.dstack([MATTE] * 4))}, "mode RGBA"),
        ({"shop/gt/a.png": png(MATTE.astype(np.uint16))}, "mode I;16"),
    ],
)
def test_invalid_files_are_named(tmp_path, change, words):
    files = {name: data for name, data in {**GOOD, **change}.items() if data is not None}
    for path in (folder(tmp_path / "set", files), archive(tmp_path / "set.zip", files)):
        with pytest.raises(InputError, match=words):
            open_dataset(path, settings=SETTINGS)


def test_many_problems_are_summarized(tmp_path):
    files = {f"shop/im/{i}.png": PHOTO for i in range(9)}
    with pytest.raises(InputError, match="And 6 more such problems"):
        open_dataset(folder(tmp_path / "set", files), settings=SETTINGS)


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/im/a.png", "shop/../../im/a.png", "C:/shop/im/a.png", "shop\\..\\im\\a.png"]
)
def test_path_traversal_in_a_zip_is_rejected(tmp_path, name):
    with pytest.raises(InputError, match="points outside the archive"):
        open_dataset(archive(tmp_path / "set.zip", {**GOOD, name: PHOTO}), settings=SETTINGS)


def test_files_over_the_byte_and_pixel_limits_are_rejected(tmp_path):
    bomb = archive(tmp_path / "bytes.zip", {**GOOD, "shop/im/a.png": bytes(60_000_000)})
    with pytest.raises(InputError, match="more than the limit of 40 MB"):
        open_dataset(bomb, settings=SETTINGS)
    wide = archive(tmp_path / "pixels.zip", {**GOOD, "shop/gt/a.png": png(np.zeros((300, 400), np.uint8))})
    with pytest.raises(InputError, match=r"more than the limit of 0\.1 megapixels"):
        open_dataset(wide, settings=Settings(max_pixels=100_000))


def test_messages_about_other_files_give_the_expected_layout(tmp_path):
    (tmp_path / "text.zip").write_bytes(b"hello")
    (tmp_path / "empty").mkdir()
    for name, words in (("missing", "There is no data set"), ("text.zip", "neither a folder nor"), ("empty", "CATEGORY/im")):
        with pytest.raises(InputError, match=words):
            open_dataset(tmp_path / name, settings=SETTINGS)


def test_a_damaged_zip_raises_one_sentence(tmp_path):
    path = archive(tmp_path / "set.zip", GOOD)
    whole = path.read_bytes()
    start = whole.index(b"shop/im/a.png") + 13
    path.write_bytes(whole[: start + 20] + b"\xff" * 40 + whole[start + 60 :])
    with pytest.raises(InputError, match="cannot be read"):
        open_dataset(path, settings=SETTINGS)
    path.write_bytes(whole.replace(b"PK\1\2", b"PK\0\0"))
    with pytest.raises(InputError, match="nor a complete zip"):
        open_dataset(path, settings=SETTINGS)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="nor a complete zip"):
        open_dataset(path, settings=SETTINGS)


def test_the_directory_of_a_zip_is_read_once(tmp_path, monkeypatch):
    """Parsing it takes 0.1 s for 10,000 files; once for each file would take a quarter of an hour."""
    path = archive(tmp_path / "set.zip", GOOD)
    opened = []
    read = zipfile.ZipFile._RealGetContents
    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", lambda self: opened.append(1) or read(self))
    for sample in open_dataset(path, settings=SETTINGS).samples:
        sample.photo(SETTINGS), sample.truth(SETTINGS)
    assert len(opened) == 1


def test_only_supported_formats_are_opened(tmp_path):
    """Pillow supports more formats, and some of them start external programs."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 160 120\n%%EndComments\n%%EOF\n"
    with pytest.raises(InputError, match=r"shop/gt/a\.png is not a picture"):
        open_dataset(folder(tmp_path / "set", {**GOOD, "shop/gt/a.png": eps}), settings=SETTINGS)


def test_exif_orientation_is_applied(tmp_path):
    image = Image.fromarray(np.rot90(MATTE))  # stored lying on its side
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    files = {"shop/im/a.jpg": out.getvalue(), "shop/gt/a.png": TRUTH}
    (sample,) = open_dataset(folder(tmp_path / "set", files), settings=SETTINGS).samples
    assert sample.photo(SETTINGS).rgb.shape[:2] == sample.truth(SETTINGS).shape


def test_colored_and_empty_mattes_are_rejected(tmp_path):
    color = np.dstack([MATTE, MATTE, 255 - MATTE])
    files = {
        "shop/im/gray.png": PHOTO,
        "shop/gt/gray.png": png(np.dstack([MATTE] * 3)),
        "shop/im/color.png": PHOTO,
        "shop/gt/color.png": png(color),
        "shop/im/none.png": PHOTO,
        "shop/gt/none.png": png(MATTE // 3),
    }
    samples = {sample.stem: sample for sample in open_dataset(folder(tmp_path / "set", files), settings=SETTINGS).samples}
    assert samples["gray"].truth(SETTINGS).shape == MATTE.shape
    with pytest.raises(InputError, match="colored"):
        samples["color"].truth(SETTINGS)
    with pytest.raises(InputError, match="alpha above one half"):
        samples["none"].truth(SETTINGS)
