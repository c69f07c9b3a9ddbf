from __future__ import annotations

import pytest

from notifyd.core.options_django import Django
from notifyd.core.site_settings import brought_settings

DATABASE = "sqlite:///srv/mysite/db.sqlite3"


def test_stock_users() -> None:
    """A database and a key are all that a site with Django's own users has to say."""
    settings = brought_settings(Django(database=DATABASE, secret_key="x"))
    assert settings["SECRET_KEY"] == "x"
    assert settings["DATABASES"]["default"]["NAME"] == "/srv/mysite/db.sqlite3"
    assert "AUTH_USER_MODEL" not in settings
    assert settings["INSTALLED_APPS"] == [
        "django.contrib.contenttypes",
        "django.contrib.auth",
    ]


def test_former_keys() -> None:
    """While the site changes its key, what the former one has signed is good."""
    options = Django(database=DATABASE, secret_key="new", secret_key_fallbacks=("old",))
    assert brought_settings(options)["SECRET_KEY_FALLBACKS"] == ["old"]


@pytest.mark.parametrize(
    ("table", "model", "user"),
    [
        ("members_member", "", "notifyd_accounts.member"),
        ("news_site_member", "", "notifyd_accounts.member"),
        ("people", "", "notifyd_accounts.people"),
        ("people", "Member", "notifyd_accounts.Member"),
    ],
)
def test_table_of_the_site(table: str, model: str, user: str) -> None:
    """A table of the site's own has a model that is called like the site's."""
    settings = brought_settings(Django(database=DATABASE, user_table=table, user_model=model))
    assert settings["AUTH_USER_MODEL"] == user
    assert settings["INSTALLED_APPS"][-1] == "notifyd.accounts"
    assert settings["NOTIFYD_ACCOUNTS"] == {
        "model": user.partition(".")[2],
        "table": table,
        "pk": "bigint",
        "name": "username",
    }
