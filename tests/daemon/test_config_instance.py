from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from notifyd.daemon.config_instance import check_instance, instance_path

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "file"),
    [("blog", "blog"), ("blog-1", "blog"), ("blog-12", "blog"), ("my-blog", "my-blog")],
)
def test_instances_of_a_site_share_its_file(tmp_path: Path, name: str, file: str) -> None:
    """SITE and SITE-N read SITE.toml; a dash that no number follows belongs to the site's name."""
    assert instance_path(name, tmp_path) == str(tmp_path / f"{file}.toml")


def test_a_file_of_its_own(tmp_path: Path) -> None:
    """An instance that has a file of its own reads that."""
    (tmp_path / "blog-2.toml").touch()
    assert instance_path("blog-2", tmp_path) == str(tmp_path / "blog-2.toml")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-a", "a b", "é"])
def test_what_is_no_name(name: str) -> None:
    """What can't be part of a file's name, or leads elsewhere, is refused."""
    with pytest.raises(ValueError, match="no name of an instance"):
        check_instance(name)


def test_names() -> None:
    """Letters, digits, dots, underscores and dashes are a name."""
    assert check_instance("www.example.com-2") == "www.example.com-2"
