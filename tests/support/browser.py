"""A browser for tests: Debian's Chromium, or the one that `playwright install chromium` downloads."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest


def chromium() -> str | None:
    """The path of a Chromium, if there is one."""
    if find_spec("playwright") is None:
        return None
    if found := shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome"):
        return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


in_a_browser = pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")
