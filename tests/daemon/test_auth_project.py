from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import connections, router
from django.test.utils import override_settings
from newsrooms import SITE, Newsroom, result

from notifyd.daemon import auth, auth_project
from notifyd.daemon.auth_database import PrimaryRouter

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["newsroom_fixtures"]

TESTS = Path(__file__).parents[1]


def set_up(
    module: str, path: str, folder: Path, *, context: str = "nullcontext", **environ: str
) -> str:
    """Set Django up in a process of its own, as somebody else perhaps, and return what it says."""
    script = (
        "import sys\n"
        "from contextlib import nullcontext\n"
        "from unprivileged import unprivileged\n"
        "from notifyd.daemon import auth\n"
        "try:\n"
        f"  with {context}():\n"
        "    auth.setup(*sys.argv[1:])\n"
        "    auth.setup(*sys.argv[1:])\n"
        "    print(auth.faults() or 'ready')\n"
        "except auth.SetupError as error:\n"
        "    print(error)\n"
    )
    python_path = os.pathsep.join([environ.pop("PYTHONPATH", str(TESTS)), str(TESTS)])
    run = subprocess.run(
        [sys.executable, "-c", script, module, path],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": python_path, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""
    return run.stdout.strip()


def test_setup(tmp_path: Path) -> None:
    """The site is set up with its settings module and the directory that this is in."""
    assert set_up("newsroom.settings", str(SITE), tmp_path) == "ready"


def test_setup_by_environment(tmp_path: Path) -> None:
    """Without an option DJANGO_SETTINGS_MODULE counts, as for every Django program."""
    environ = {"DJANGO_SETTINGS_MODULE": "newsroom.settings", "PYTHONPATH": str(SITE)}
    assert set_up("", "", tmp_path, **environ) == "ready"


def test_setup_of_logs(tmp_path: Path) -> None:
    """The site's own logs are left alone: the daemon may not even write to them."""
    (tmp_path / "mine.py").write_text(
        "from newsroom.settings import *\n"
        "LOGGING = {'version': 1, 'handlers': {'file': {'class': 'logging.FileHandler',"
        " 'filename': '/nowhere/at/all'}}}\n"
    )
    assert set_up("mine", str(tmp_path), tmp_path, PYTHONPATH=str(SITE)) == "ready"


def test_setup_without_settings(tmp_path: Path) -> None:
    """Without any settings module the error names both places to set one."""
    assert "set [django] settings, or DJANGO_SETTINGS_MODULE" in set_up("", "", tmp_path)


def test_setup_without_directory(tmp_path: Path) -> None:
    """A path that is no directory is named."""
    words = set_up("newsroom.settings", "/nowhere", tmp_path)
    assert words == "There is no directory '/nowhere': correct [django] path."


def test_setup_behind_a_closed_directory(folder: Path, tmp_path: Path) -> None:
    """A path that the daemon may not enter is told with what is in the way."""
    folder.chmod(0o755)
    (folder / "ada" / "site").mkdir(parents=True)
    (folder / "ada").chmod(0)
    words = set_up("x", f"{folder}/ada/site", tmp_path, context="unprivileged")
    assert words.startswith(f"[django] path '{folder}/ada/site' can't be read: {folder}/ada is cl")


def test_setup_with_a_closed_file(folder: Path, tmp_path: Path) -> None:
    """Settings that read what the daemon may not are told with what is in the way."""
    secret = folder / "secret"
    secret.touch()
    secret.chmod(0)
    (folder / "closed_settings.py").write_text(f"open({str(secret)!r})\n")
    folder.chmod(0o755)
    words = set_up("closed_settings", str(folder), tmp_path, context="unprivileged")
    assert f"PermissionError: [Errno 13] Permission denied: '{secret}'. The way there: " in words
    assert f"{secret} is closed to the user " in words


def test_setup_outside_the_path(tmp_path: Path) -> None:
    """Settings that can't be found lack the directory in the search path."""
    words = set_up("nowhere.settings", "", tmp_path)
    assert words.endswith("Set [django] path to the directory that has manage.py.")


def test_setup_without_library(tmp_path: Path) -> None:
    """Settings that import what is not installed need an installation, or the site's own."""
    (tmp_path / "their_settings.py").write_text("import a_library_of_theirs\n")
    words = set_up("their_settings", str(tmp_path), tmp_path)
    assert words.endswith(
        "Install what is missing into the environment that runs notifyd, or set [django] python to"
        " the site's virtual environment."
    )


def test_setup_of_broken_settings(tmp_path: Path) -> None:
    """Whatever the settings raise is in the error, which says how to see more."""
    (tmp_path / "broken_settings.py").write_text("{}['DATABASE']\n")
    words = set_up("broken_settings", str(tmp_path), tmp_path)
    assert "KeyError: 'DATABASE'. Run `python -m django check` with" in words


def test_primary(newsroom: Newsroom) -> None:
    """The set-up puts the daemon's router in front of the site's, to read from the primary."""
    assert isinstance(newsroom, Newsroom)
    assert isinstance(router.routers[0], PrimaryRouter)


def test_no_faults(newsroom: Newsroom) -> None:
    """The newsroom is set up as it should be."""
    assert isinstance(newsroom, Newsroom)
    assert auth.faults() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"AUTHENTICATION_BACKENDS": []}, 'Add "sesame.backends.ModelBackend" to AUTHENTICATION_B'),
        ({"SESAME_MAX_AGE": None}, "Set SESAME_MAX_AGE"),
        ({"SESAME_MAX_AGE": 0}, "Set SESAME_MAX_AGE"),
        ({"SESAME_TOKENS": ["sesame.tokens_v1"]}, 'Put "sesame.tokens_v2" first in SESAME_TOKENS'),
        ({"AUTHENTICATION_BACKENDS": ["no.such.Backend"]}, "Correct the site's settings: No modu"),
    ],
)
def test_faults(newsroom: Newsroom, change: dict[str, Any], words: str) -> None:
    """What is unsafe or missing is named, and what to do about it."""
    assert isinstance(newsroom, Newsroom)
    with override_settings(**change):
        [fault] = auth.faults()
    assert fault.startswith(words)


def test_all_faults(newsroom: Newsroom) -> None:
    """All faults are named at once."""
    assert isinstance(newsroom, Newsroom)
    with override_settings(AUTHENTICATION_BACKENDS=[], SESAME_MAX_AGE=None):
        assert len(auth.faults()) == 2


def test_fault_of_one_time(newsroom: Newsroom, monkeypatch: pytest.MonkeyPatch) -> None:
    """One-time tokens need a field that remembers their use."""
    assert isinstance(newsroom, Newsroom)

    def without(name: str) -> None:
        raise FieldDoesNotExist(name)

    with override_settings(SESAME_ONE_TIME=True):
        assert auth.faults() == []
        monkeypatch.setattr(apps.get_model("auth.User")._meta, "get_field", without)
        [fault] = auth.faults()
    assert fault.startswith("Unset SESAME_ONE_TIME")


def test_fault_of_the_database(newsroom: Newsroom) -> None:
    """A site without a database can't be used."""
    assert isinstance(newsroom, Newsroom)
    connections.settings["default"]["ENGINE"] = "django.db.backends.dummy"
    assert auth.faults() == ["Set DATABASES['default']: notifyd reads the users there."]


def test_fault_of_the_apps(newsroom: Newsroom, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site without Django's users and content types can't be used."""
    assert isinstance(newsroom, Newsroom)
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "django.contrib.contenttypes")
    [fault] = auth.faults()
    assert fault.startswith('Add "django.contrib.contenttypes" to INSTALLED_APPS')


async def test_create_token(newsroom: Newsroom, make: Callable[..., auth.Authenticator]) -> None:
    """A token for trying out is scoped, or unscoped if that is wanted."""
    authenticator = make()
    scoped = await newsroom.run(auth.create_token, "nadia")
    unscoped = await newsroom.run(lambda: auth.create_token("nadia", scoped=False))
    assert await result(authenticator, scoped) == "ok"
    assert await result(authenticator, unscoped) == "invalid"
    assert await result(authenticator, unscoped, bare=True) == "ok"


def test_create_token_for_nobody(newsroom: Newsroom) -> None:
    """There is no token for a user who doesn't exist."""
    assert isinstance(newsroom, Newsroom)
    with pytest.raises(auth.SetupError, match=r"^There is no user 'nobody'\.$"):
        auth.create_token("nobody")


@pytest.mark.parametrize(
    ("cache", "url"),
    [
        ({"LOCATION": "redis://a:6379/1"}, "redis://a:6379/1"),
        ({"LOCATION": "redis://a/1,redis://b/1"}, "redis://a/1"),
        ({"LOCATION": "redis://u:p,q@a/1;redis://b/1"}, "redis://u:p,q@a/1"),
        ({"LOCATION": ["rediss://a/1", "rediss://b/1"]}, "rediss://a/1"),
        ({"LOCATION": "unix:///run/redis.sock?db=2"}, "unix:///run/redis.sock?db=2"),
        ({"LOCATION": "redis://a/1", "OPTIONS": None}, "redis://a/1"),
        ({"LOCATION": "redis://a/1", "OPTIONS": {"PASSWORD": "p@s/s"}}, "redis://:p%40s%2Fs@a/1"),
        (
            {"LOCATION": "redis://a/1", "OPTIONS": {"USERNAME": "u", "PASSWORD": "p"}},
            "redis://u:p@a/1",
        ),
        ({"LOCATION": "redis://:mine@a/1", "OPTIONS": {"PASSWORD": "p"}}, "redis://:mine@a/1"),
        (
            {
                "LOCATION": "unix:///run/redis.sock",
                "OPTIONS": {"CONNECTION_POOL_KWARGS": {"password": "p", "db": 3}},
            },
            "unix://:p@/run/redis.sock?db=3",
        ),
        ({"LOCATION": "redis://a", "OPTIONS": {"db": "10"}}, "redis://a?db=10"),
        ({"LOCATION": "redis://a/4", "OPTIONS": {"db": "10"}}, "redis://a/4"),
        ({"LOCATION": "redis://a?db=4", "OPTIONS": {"db": "10"}}, "redis://a?db=4"),
    ],
)
def test_cache_url(newsroom: Newsroom, cache: dict[str, Any], url: str) -> None:
    """The address of a cache is complete: what stands beside it in the options is in it."""
    assert isinstance(newsroom, Newsroom)
    with override_settings(CACHES={"default": cache}):
        assert auth.cache_url("default") == url


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        ({"LOCATION": "a-name"}, r"no redis://, rediss:// or unix:// address: set \[redis\] url"),
        ({}, r"no redis://, rediss:// or unix:// address: set \[redis\] url"),
        (
            {"LOCATION": "redis://service/0", "OPTIONS": {"SENTINELS": [("a", 26379)]}},
            "uses Sentinel, which is not supported yet",
        ),
    ],
)
def test_cache_of_another_kind(newsroom: Newsroom, cache: dict[str, Any], words: str) -> None:
    """A cache that is no plain Redis is refused with what to do about it."""
    assert isinstance(newsroom, Newsroom)
    with (
        override_settings(CACHES={"default": cache}),
        pytest.raises(auth.SetupError, match=words),
    ):
        auth.cache_url("default")


def test_cache_that_does_not_exist(newsroom: Newsroom) -> None:
    """An unknown alias is refused with those that there are."""
    assert isinstance(newsroom, Newsroom)
    with pytest.raises(auth.SetupError, match=r"no 'other': set \[django\] cache to one of d"):
        auth.cache_url("other")


def test_site_option(newsroom: Newsroom) -> None:
    """An option of the site is what it says in NOTIFYD, and none where it says nothing usable."""
    assert isinstance(newsroom, Newsroom)
    with override_settings(NOTIFYD={"PREFIX": "news", "CACHE_ALIAS": None}):
        assert auth_project.site_option("PREFIX") == "news"
        assert auth_project.site_option("CACHE_ALIAS") is None
    with override_settings(NOTIFYD=["PREFIX"]):
        assert auth_project.site_option("PREFIX") is None
