"""Check that the site of the documentation loads nothing from other hosts: ``python docs/check_site.py SITE``."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path

#: Attributes whose resources a browser loads without a click.
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Resources(HTMLParser):
    """Collects the addresses that a page loads from other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        address = values.get(LOADED.get(tag, "")) or ""
        if address.startswith(("http:", "https:", "//")) and values.get("rel") != "canonical":
            self.found.append(address)


def main() -> None:
    pages = sorted(Path(sys.argv[1]).rglob("*.html"))
    if not pages:
        sys.exit(f"{sys.argv[1]} has no pages. Run mkdocs build first.")
    for page in pages:
        resources = Resources()
        resources.feed(page.read_text(encoding="utf-8"))
        if resources.found:
            sys.exit(f"{page} loads {resources.found[0]}.")


if __name__ == "__main__":
    main()
