"""The releases that the tree has to get on with, and how to get at them."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

from daemons import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_TAG = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


def neighbours(version: str, tags: Iterable[str]) -> Mapping[str, str]:
    """Return the newest tag of the minor version before this one, of the same, and of the next.

    They are found by their order, so that 1.0 is the next minor version after the last 0.x.
    """
    found = filter(None, map(_TAG.fullmatch, tags))
    released = sorted((int(each[1]), int(each[2]), int(each[3])) for each in found)
    ours = tuple(map(int, version.split(".")[:2]))
    newest = {(major, minor): patch for major, minor, patch in released}
    minors = sorted({*newest, ours})
    place = minors.index(ours)
    return {
        f"{major}.{minor}": f"v{major}.{minor}.{newest[major, minor]}"
        for major, minor in minors[max(place - 1, 0) : place + 2]
        if (major, minor) in newest
    }


def is_repository() -> bool:
    """Tell whether this is a clone, and not only the files of one."""
    return (ROOT / ".git").exists()


def tags() -> list[str]:
    """Return the repository's tags."""
    return _git("tag", "--list").decode().split() if is_repository() else []


def unpack(revision: str, folder: Path) -> Path:
    """Build the wheel of a revision, and return the folder that has what is in it.

    It has no dependencies in it: those of the tree's environment have to do.
    """
    source, made, unpacked = (folder / name for name in ("source", "made", "unpacked"))
    archive = folder / "source.zip"
    archive.write_bytes(_git("archive", "--format=zip", revision))
    _extract(archive, source)
    build = ["wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([sys.executable, "-m", "pip", *build, made, source], check=True)
    [wheel] = made.glob("*.whl")
    _extract(wheel, unpacked)
    return unpacked


def _extract(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as contents:
        contents.extractall(folder)


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True)
    return done.stdout
