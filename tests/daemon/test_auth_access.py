from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from unprivileged import unprivileged

from notifyd.daemon.auth_access import closed_fault, obstacle, sqlite_fault

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(folder: Path) -> Path:
    """Give a directory that everybody may enter, with others in it."""
    folder.chmod(0o755)
    (folder / "ada" / "site").mkdir(parents=True)
    (folder / "ada" / "site" / "db.sqlite3").touch()
    return folder


@pytest.mark.parametrize("name", ["ada", "ada/site"])
def test_obstacle(place: Path, name: str) -> None:
    """The first directory on the way that can't be entered is the obstacle."""
    (place / name).chmod(0)
    with unprivileged():
        assert obstacle(str(place / "ada" / "site" / "db.sqlite3")) == str(place / name)
    (place / name).chmod(0o755)


def test_obstacle_at_the_end(place: Path) -> None:
    """A file that can't be read is itself in the way."""
    file = place / "ada" / "site" / "db.sqlite3"
    file.chmod(0)
    with unprivileged():
        assert obstacle(str(file)) == str(file)


@pytest.mark.parametrize("name", ["ada/site", "ada/site/db.sqlite3", "ada/none", "none/site"])
def test_no_obstacle(place: Path, name: str) -> None:
    """What can be read is not closed, and neither is what doesn't exist."""
    with unprivileged():
        assert obstacle(str(place / name)) is None
        assert closed_fault(str(place / name)) is None


def test_closed(place: Path) -> None:
    """What is closed is named together with who may not enter."""
    (place / "ada").chmod(0o700)
    with unprivileged():
        words = str(closed_fault(str(place / "ada" / "site")))
    assert words.startswith(f"{place}/ada is closed to the user ")
    assert words.endswith(f"rx {place}/ada")


def test_sqlite_in_a_folder_that_is_read_only(place: Path) -> None:
    """A SQLite file in a folder that can't be written to is told with the drop-in for it."""
    (place / "ada" / "site").chmod(0o555)
    with unprivileged():
        words = str(sqlite_fault(str(place / "ada" / "site" / "db.sqlite3")))
    assert f"ReadWritePaths={place}/ada/site" in words
    assert "site-on-sqlite.conf" in words


def test_sqlite_that_is_closed(place: Path) -> None:
    """A SQLite file on a way that is closed is told with what opens it."""
    (place / "ada").chmod(0)
    with unprivileged():
        words = str(sqlite_fault(str(place / "ada" / "site" / "db.sqlite3")))
    assert words.startswith(f"{place}/ada is closed to")


def test_sqlite_without_a_folder(place: Path) -> None:
    """A folder that does not exist is told as such."""
    words = sqlite_fault(str(place / "none" / "db.sqlite3"))
    assert words == f"there is no directory {place}/none"


def test_sqlite_that_is_in_order(place: Path) -> None:
    """Where file and folder can be written to there is no fault."""
    (place / "ada" / "site").chmod(0o777)
    (place / "ada" / "site" / "db.sqlite3").chmod(0o666)
    with unprivileged():
        assert sqlite_fault(str(place / "ada" / "site" / "db.sqlite3")) is None
