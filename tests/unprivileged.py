"""Being somebody who may not read everything, for a while."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65_534


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Have no privilege for the length of a block: root, who may read all, becomes nobody."""
    if os.geteuid():
        yield
        return
    # The saved ID stays root's, by which this can be undone.
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
