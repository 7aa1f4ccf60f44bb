"""axe-core on a page of the browser tests."""

from __future__ import annotations

from typing import Any

#: Rules of WCAG 2.2, levels A and AA; the last set has the minimum size of targets. Elements that pass are not listed.
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}


def violations(page: Any) -> list[str]:
    """Return the reports of the violations on the page as it is now, with its transitions finished."""
    from axe_playwright_python.sync_playwright import Axe

    page.wait_for_function("document.getAnimations().every((animation) => animation.playState !== 'running')", timeout=60_000)
    found = Axe().run(page, options=RULES)
    return [found.generate_report()] if found.violations_count else []
