"""The configuration of logging, which is the process' own and so is all tests'."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def kept_logging() -> Iterator[None]:
    """Have logging configured at will for the length of a block, and then as it was before."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for handler in root.handlers[:]:
            root.removeHandler(handler)
            handler.close()
        for handler in handlers:
            root.addHandler(handler)
        root.setLevel(level)
        structlog.configure(**before)
