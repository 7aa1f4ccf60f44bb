"""Chromium for the browser tests; ``python tests/browser.py --install`` installs it if it is missing."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

SHELL = "chromium-headless-shell"

#: The shell of Debian is Chromium without the parts of a desktop browser, and takes a quarter less CPU time.
NAMES = (SHELL, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Without these Chromium contacts update servers, which logs errors on isolated networks.
ARGUMENTS = [
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--host-resolver-rules=MAP *.example 127.0.0.1",  # names for the tests of DNS rebinding
]

#: For tests only, not for the benchmarks of the page: in MB, for fewer collections of garbage while a page is opened.
LARGE_HEAP = "--js-flags=--min-semi-space-size=64"

#: Time limit for the end of a context, in seconds; Playwright has none.
CLOSE_SECONDS = 60

DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


def executable() -> str | None:
    """Return the path of the system's Chromium; None selects the one of Playwright."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def arguments() -> list[str]:
    """Return the command-line arguments; the sandbox is off for root, as it fails in containers."""
    return [*ARGUMENTS, "--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else ARGUMENTS


class Chromium:
    """Chromium of a test process: started at its first use, and again after it has exited.

    Parameters
    ----------
    playwright : playwright.sync_api.Playwright
        The connection to the driver.

    Attributes
    ----------
    process : int
        Process id of the running browser.
    """

    def __init__(self, playwright: Any) -> None:
        self._type = playwright.chromium
        self._browser: Any = None
        self._unused: list[Any] = []
        self.process = 0

    def new_context(self, **options: Any) -> Any:
        """Return a new Playwright context, which is a browser of its own with an empty cache."""
        if not self._runs():
            self._browser = self._type.launch(executable_path=executable(), args=[*arguments(), LARGE_HEAP])
            self._unused = []
            processes = self._browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
            self.process = next(process["id"] for process in processes if process["type"] == "browser")
        context = self._browser.new_context(**options)
        context.close = functools.partial(self._end, functools.partial(_leave_and_close, context, context.close))
        return context

    @contextlib.contextmanager
    def visit(self, viewport: dict[str, int] = DESKTOP, *, locale: str = "", **media: str) -> Iterator[Any]:
        """Open an empty page of a new visitor; the cache of the browser has the scripts of earlier visits.

        Visits at the same time have a context each, which later visits use again.

        Parameters
        ----------
        viewport : dict of str to int
            Width and height of the window in pixels.
        locale : str
            First language of the browser, such as ``pt-BR``; that of the machine by default.
        media : dict of str to str
            Arguments of ``page.emulate_media``.
        """
        context = self._unused.pop() if self._runs() and self._unused else self.new_context(viewport=DESKTOP)
        page = context.new_page()
        if viewport != DESKTOP:
            page.set_viewport_size(viewport)
        if media:
            page.emulate_media(**media)
        if locale:
            language = {"userAgent": page.evaluate("navigator.userAgent"), "acceptLanguage": locale}
            context.new_cdp_session(page).send("Emulation.setUserAgentOverride", language)
        try:
            yield page
        finally:
            self._end(functools.partial(_forget, page))
            self._unused.append(context)

    def _runs(self) -> bool:
        return self._browser is not None and self._browser.is_connected()

    def _end(self, close: Callable[[], object]) -> None:
        """Call `close`; kill Chromium if that takes longer than `CLOSE_SECONDS`, so that only one test fails."""
        timer = threading.Timer(CLOSE_SECONDS, os.kill, (self.process, signal.SIGKILL))
        timer.start()
        try:
            close()
        finally:
            timer.cancel()
            if not self._browser.is_connected():
                raise AssertionError(f"Chromium has exited, or was killed because it did not close in {CLOSE_SECONDS} seconds.")

    def close(self) -> None:
        if self._runs():
            self._browser.close()


@contextlib.contextmanager
def dark_phone(page: Any) -> Iterator[None]:
    """Give an opened page of Gradio the size of a phone and the dark mode, as ``?__theme=dark`` does, and back at the end."""
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.body.classList.add('dark')")
    try:
        yield
    finally:
        page.evaluate("document.body.classList.remove('dark')")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(DESKTOP)


def _forget(page: Any) -> None:
    """Close the pages of a context, and remove storage, cookies and permissions of the site of `page`."""
    context, site = page.context, urlsplit(page.url)
    for opened in context.pages:
        _leave(opened)
    if site.netloc:
        data = {"origin": f"{site.scheme}://{site.netloc}", "storageTypes": "local_storage,indexeddb,cache_storage"}
        context.new_cdp_session(page).send("Storage.clearDataForOrigin", data)
    for opened in context.pages:
        opened.close()
    context.clear_cookies()
    context.clear_permissions()


def _leave(page: Any) -> None:
    """Open an empty page. Chromium never confirms the end of a context in which a navigation is committed meanwhile."""
    from playwright.sync_api import Error

    for _ in range(5):
        with contextlib.suppress(Error):  # interrupted by a navigation of the site
            page.goto("about:blank")
            return


def _leave_and_close(context: Any, close: Callable[[], object]) -> None:
    for page in context.pages:
        _leave(page)
    close()


def install() -> int:
    """Install Chromium from the Debian package if run as root, otherwise by Playwright; returns the exit status."""
    if executable():
        return 0
    if shutil.which("apt-get") and getattr(os, "geteuid", lambda: 1)() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        if subprocess.run(["apt-get", "install", "-y", "-qq", SHELL, "fonts-dejavu-core"], check=False).returncode == 0:
            return 0
    return subprocess.run([sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"], check=False).returncode


if __name__ == "__main__" and "--install" in sys.argv:
    sys.exit(install())
