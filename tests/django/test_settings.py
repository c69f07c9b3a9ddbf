from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test.utils import override_settings

from notifyd.django.settings import KINDS, Settings, faults, load

pytest_plugins = ["newsroom_fixtures"]
pytestmark = pytest.mark.usefixtures("seeded")


def test_defaults() -> None:
    """Everything has a default, whether NOTIFYD is empty or missing."""
    with override_settings(NOTIFYD={}):
        assert load() == Settings()
        del settings.NOTIFYD
        assert load() == Settings(
            enabled=True,
            cache_alias="default",
            redis_url=None,
            prefix="notifyd",
            history=100_000,
            url=None,
        )


def test_override() -> None:
    """What counts is the setting as it is at the moment, so that tests may override it."""
    with override_settings(NOTIFYD={"HISTORY": 7, "PREFIX": "news", "URL": "wss://news/"}):
        assert load() == Settings(history=7, prefix="news", url="wss://news/")
        with override_settings(NOTIFYD={"ENABLED": False, "CACHE_ALIAS": "bus"}):
            assert load() == Settings(enabled=False, cache_alias="bus")


def test_unknown_key() -> None:
    """A key that isn't known changes nothing: a check tells of it."""
    with override_settings(NOTIFYD={"HISTROY": 7}):
        assert load() == Settings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ENABLED", "no"),
        ("ENABLED", None),
        ("CACHE_ALIAS", ""),
        ("CACHE_ALIAS", None),
        ("REDIS_URL", 6379),
        ("PREFIX", ""),
        ("PREFIX", "{news}"),
        ("PREFIX", "the news"),
        ("PREFIX", 1),
        ("HISTORY", 0),
        ("HISTORY", True),
        ("HISTORY", "1000"),
        ("URL", b"ws://localhost:8888/"),
    ],
)
def test_wrong_value(key: str, value: Any) -> None:
    """A value that can't be used is refused by name, and not quoted."""
    with (
        override_settings(NOTIFYD={key: value}),
        pytest.raises(ImproperlyConfigured) as caught,
    ):
        load()
    assert str(caught.value) == f"NOTIFYD[{key!r}] must be {KINDS[key].words}."


def test_all_faults_at_once() -> None:
    """All that is wrong is told at once."""
    assert faults({"ENABLED": 1, "HISTORY": -1, "URL": None}) == [
        "NOTIFYD['ENABLED'] must be True or False.",
        "NOTIFYD['HISTORY'] must be an integer above 0.",
    ]
    assert faults(["ENABLED"]) == ["NOTIFYD must be a dict."]


def test_secret() -> None:
    """The address, which may have a password in it, is not shown."""
    assert "s3cret" not in repr(Settings(redis_url="redis://:s3cret@localhost/1"))
