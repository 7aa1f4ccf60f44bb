"""Parsers of texts that users write: every text gives a value within its range, or an error of one sentence."""

from __future__ import annotations

import math
import os
from dataclasses import fields
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbg.batch.manifest import Item, Manifest
from rmbg.batch.sources import PathList, matches_glob, normalized, safe_target, unique_targets
from rmbg.errors import InputError, OptionError, RmbgError
from rmbg.images.pixels import parse_color
from rmbg.net.download import matches, parse
from rmbg.render.backgrounds import parse_background
from rmbg.render.canvas import LONGEST, MOST_PIXELS, PRESETS, SHORTEST, parse_canvas
from rmbg.render.finishing import Finishing, parse_contact_shadow, parse_outline, parse_shadow
from rmbg.render.notation import Length, parse_length
from rmbg.settings import Settings
from rmbg.ui.guard.checks import parse_hosts, parse_netloc, parse_origin
from rmbg.ui.languages import DEFAULT, preferred, translations
from tests.sentences import sentence

#: Texts of the characters of a notation, which reach further into a parser than arbitrary ones.
NOTATION = st.text("0123456789.,%px+-#eE xabcfgort()hslnd", max_size=24)
TEXT = st.one_of(NOTATION, st.text(max_size=40))
FINITE = {"allow_nan": False, "allow_infinity": False}
LENGTHS = st.builds("{:.3g}{}".format, st.floats(0, 20, **FINITE), st.sampled_from(["%", "px", ""]))
SETTINGS = Settings.from_environ({})


def parsed(function, *texts, error=OptionError, **more):
    """Return the value of a parser, or None if it raises the error of invalid texts, whose message is one sentence."""
    try:
        return function(*texts, **more)
    except error as caught:
        assert "\n" not in str(caught) and len(str(caught)) < 600
        sentence(caught)
        return None


def is_color(color) -> bool:
    return len(color) == 3 and all(isinstance(value, int) and 0 <= value <= 255 for value in color)


NUMBERS = st.builds("{}{}".format, st.floats(0, 999, **FINITE).map("{:.2f}".format), st.sampled_from(["", "%"]))
COLORS = st.builds("{}({},{},{})".format, st.sampled_from(["rgb", "rgba", "hsl", "hsla", "lab"]), NUMBERS, NUMBERS, NUMBERS)


@given(st.one_of(TEXT, COLORS))
def test_colors(text):
    color = parsed(parse_color, text)
    assert color is None or is_color(color)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_color_notations_agree(color):
    red, green, blue = color
    texts = (f"#{red:02x}{green:02x}{blue:02x}", f"rgb({red}, {green}, {blue})", f" rgba({red} {green} {blue} / 50%) ")
    assert {parse_color(text) for text in texts} == {color}


@given(st.one_of(TEXT, st.builds("{:.3f}{}".format, st.floats(-20_000, 20_000, **FINITE), st.sampled_from(["%", "px", ""]))))
def test_lengths(text):
    length = parsed(parse_length, text, "The padding", -1)
    assert length is None or (abs(length.value) <= (100 if length.percent else 10_000) and math.isfinite(length.value))


@given(st.integers(-10_000, 10_000), st.booleans())
def test_lengths_are_printed_as_they_are_parsed(value, percent):
    length = Length(value / 100 if percent else value, percent)
    assert parse_length(str(length), "The length", -1) == length


@given(
    st.one_of(TEXT, st.sampled_from(sorted(PRESETS)), st.builds("{}x{}".format, *[st.integers(0, 20_000)] * 2)),
    TEXT,
    TEXT,
    TEXT,
)
def test_canvases(size, padding, scale, position):
    canvas = parsed(parse_canvas, size, padding, scale, position)
    if canvas is not None:
        assert all(SHORTEST <= side <= LONGEST for side in (canvas.width, canvas.height))
        assert canvas.width * canvas.height <= MOST_PIXELS
        assert 0 <= 2 * canvas.padding_pixels < min(canvas.width, canvas.height)


@given(st.one_of(TEXT, st.builds("{},{},{},{}".format, LENGTHS, LENGTHS, LENGTHS, st.integers(-10, 110))))
def test_shadows(text):
    shadow = parsed(parse_shadow, text)
    assert shadow is None or (0 <= shadow.opacity <= 100 and shadow.blur.value >= 0 and is_color(shadow.color))


@given(st.one_of(TEXT, st.builds("{},{}".format, st.integers(-10, 110), LENGTHS)))
def test_contact_shadows(text):
    shadow = parsed(parse_contact_shadow, text)
    assert shadow is None or (0 <= shadow.opacity <= 100 and shadow.blur.value >= 0 and is_color(shadow.color))


@given(st.one_of(TEXT, st.builds("{},#{:06x}".format, LENGTHS, st.integers(0, 0xFFFFFF))))
def test_outlines(text):
    outline = parsed(parse_outline, text)
    assert outline is None or (0 <= outline.width.value <= 500 and is_color(outline.color))


@given(TEXT, st.floats(allow_nan=True))
def test_crop(canvas, margin):
    finishing = parsed(Finishing.parse, canvas=canvas)
    if finishing is not None:
        valid = 0 <= margin <= 2 and finishing.canvas is None
        try:
            finishing.check_crop(margin)
            assert valid
        except OptionError:
            assert not valid


@given(st.one_of(TEXT, st.builds("gradient:{},{},{}".format, TEXT, TEXT, TEXT)))
def test_backgrounds(text):
    background = parsed(parse_background, text, paths=False)
    assert background is None or all(is_color(color) for color in background.colors)


HOSTS = st.sampled_from(
    ["example.com", "user:word@example.com", "v3.fal.media", "xfal.media", "[::1]", "xn--", "é.example", ""]
)
PORTS = st.sampled_from(["", "", ":80", ":99999"])
URLS = st.builds("{}://{}{}/{}".format, st.sampled_from(["http", "https", "HTTPS", "ftp"]), HOSTS, PORTS, TEXT)


@settings(max_examples=200)
@given(st.one_of(URLS, TEXT))
def test_addresses(text):
    url = parsed(parse, text, error=InputError)
    if url is not None:
        assert url.scheme in ("http", "https") and url.host and not url.userinfo
        assert not matches(url, ["fal.media", ".fal.media"]) or url.host == "fal.media" or url.host.endswith(".fal.media")


@given(st.one_of(TEXT, st.lists(st.builds("{};q={}".format, st.sampled_from(["de", "en-US", "xx"]), TEXT)).map(",".join)))
def test_accept_language(header):
    assert preferred(header) in {DEFAULT, *translations()}


@given(st.sampled_from(sorted(translations())), st.sampled_from(["", "-CH", "-419"]), st.floats(0.1, 0.9))
def test_first_choice_of_accept_language(language, region, weight):
    assert preferred(f"xx;q={weight / 2:.3f},{language}{region};q={weight:.3f}") == language


@given(TEXT)
def test_host_names(text):
    netloc = parse_netloc(text)
    assert netloc is None or (netloc.host == netloc.host.lower() and (netloc.port is None or 1 <= netloc.port <= 65_535))
    origin = parse_origin(text)
    assert origin is None or origin[0] in ("http", "https")
    parsed(parse_hosts, [text], "RMBG_ALLOW_HOSTS")


PARTS = st.one_of(st.sampled_from(["..", ".", "", "CON", "a.jpg", "A.JPG", "/etc", "\\\\x"]), st.text(max_size=300))


@given(st.lists(PARTS, max_size=6))
def test_targets_stay_below_the_output(parts):
    target = PurePosixPath(safe_target(parts))
    assert not target.is_absolute() and ".." not in target.parts and target.parts
    assert all(len(part) <= 200 and part.strip(" .") and not set(part) & set('<>:"|?*\\\0') for part in target.parts)


@given(
    st.lists(
        st.tuples(st.text(max_size=8), st.sampled_from(["a", "A", "b", "a-2", "é", "e\u0301"])), unique_by=lambda pair: pair[0]
    )
)
def test_targets_are_unique(wanted):
    targets = unique_targets(wanted, ["b"])
    assert set(targets) == {name for name, _ in wanted}
    assert len({normalized(target) for target in [*targets.values(), "b"]}) == len(targets) + 1


@given(st.lists(st.text("ab*?[]!-.", min_size=1, max_size=5), min_size=1, max_size=3), st.text("ab./", max_size=8))
def test_globs(parts, name):
    matches_glob(name.split("/"), parts)
    if not any(set(part) & set("*?[") for part in parts):
        assert matches_glob(parts, parts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("properties")


@given(lines=st.lists(st.one_of(TEXT, URLS), max_size=8))
def test_lists_of_paths(folder: Path, lines):
    path = folder / "list.txt"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    entries = parsed(PathList(path, SETTINGS).entries, error=RmbgError)
    for entry in entries or ():
        assert entry.name and not os.path.isabs(entry.target) and ".." not in entry.target.split("/")  # noqa: PTH117


#: Values of the columns of an item by type; SQLite stores integers of 64 bits.
COLUMNS = {
    "str": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    "int": st.integers(0, 2**63 - 1),
    "float": st.floats(0, 1e9, **FINITE),
    "State": st.sampled_from(["new", "done", "nothing", "failed", "charged"]),
}
VALUES = st.fixed_dictionaries(
    {}, optional={f.name: COLUMNS[str(f.type)] for f in fields(Item) if f.name not in ("name", "target")}
)


@given(name=COLUMNS["str"], values=VALUES.filter(bool))
def test_manifest_returns_what_it_has_recorded(folder: Path, name, values):
    path = folder / "manifest.sqlite3"
    path.unlink(missing_ok=True)
    with Manifest(path) as manifest:
        manifest.assign([(name, "target")])
        manifest.record(name, **values)
    with Manifest(path) as manifest:
        assert manifest.items() == {name: Item(name, "target", **values)}
