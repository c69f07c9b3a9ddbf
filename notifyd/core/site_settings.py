"""The settings that notifyd brings, for a site whose project is not imported.

They hold what tells who a user is and what that user may see, and nothing else: Django's own tables
of users, groups, permissions and content types, and django-sesame with its defaults. Whatever a
site has of its own (a backend, a has_perm, further settings of sesame) takes the site's settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from notifyd.core.database_url import parse_database

if TYPE_CHECKING:
    from notifyd.core.options_django import Django

STOCK_TABLE: Final = "auth_user"
_LABEL: Final = "notifyd_accounts"


def brought_settings(options: Django) -> dict[str, Any]:
    """Return the settings for the site of these options, as django.conf.settings takes them.

    Raises ValueError where `database` is no address.
    """
    settings: dict[str, Any] = {
        "SECRET_KEY": options.secret_key,
        "SECRET_KEY_FALLBACKS": [*options.secret_key_fallbacks],
        "DATABASES": {"default": parse_database(options.database)},
        "INSTALLED_APPS": ["django.contrib.contenttypes", "django.contrib.auth"],
        "AUTHENTICATION_BACKENDS": [
            "django.contrib.auth.backends.ModelBackend",
            "sesame.backends.ModelBackend",
        ],
        # Any number makes the same signature; that of the site only bounds who verifies there.
        "SESAME_MAX_AGE": 30,
        "SESAME_TOKENS": ["sesame.tokens_v2"],
        "USE_TZ": True,
    }
    if options.user_table != STOCK_TABLE:
        model = options.user_model or options.user_table.rpartition("_")[2]
        settings["INSTALLED_APPS"].append("notifyd.accounts")
        settings["AUTH_USER_MODEL"] = f"{_LABEL}.{model}"
        # For the models of that app.
        settings["NOTIFYD_ACCOUNTS"] = {
            "model": model,
            "table": options.user_table,
            "pk": options.user_pk,
            "name": options.user_name,
        }
    return settings
