"""One browser for all tests, and a tab for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser.chromium import Browser, Tab, missing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Give the browser."""
    if missing():
        pytest.skip(f"not installed: {', '.join(missing())}")
    with Browser() as running:
        yield running


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    """Give a tab where nobody has logged in."""
    with browser.tab() as opened:
        yield opened
