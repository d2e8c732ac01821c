"""A real Chromium, without a window."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page, async_playwright

_MOST = 120_000
"""Milliseconds for the start, and for each act."""


@asynccontextmanager
async def open_page() -> AsyncIterator[Page]:
    """A page in a browser of its own, whose console must stay without errors."""
    program = shutil.which("chromium")
    if program is None:
        raise RuntimeError("chromium is not installed: as root, apt-get install chromium")
    # Its own walls cannot be built by root; what it opens is ours.
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []
    errors: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=arguments, timeout=_MOST
        )
        try:
            page = await browser.new_page(viewport={"width": 480, "height": 800})
            page.set_default_timeout(_MOST)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on(
                "console",
                lambda said: errors.append(said.text) if "Content Security" in said.text else None,
            )
            yield page
        finally:
            await browser.close()
    assert errors == []
