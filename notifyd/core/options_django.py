"""The options of the site's Django: its own settings, or those that notifyd brings."""

from __future__ import annotations

from dataclasses import dataclass

from notifyd.core import kinds
from notifyd.core.option_field import option


@dataclass(frozen=True, kw_only=True, slots=True)
class Django:
    """The site whose users connect: its own settings, or those that notifyd brings."""

    settings: str = option(
        "",
        "",
        "The site's settings module. Empty: DJANGO_SETTINGS_MODULE, unless database is set.",
        kinds.MODULE,
    )
    path: str = option(
        "",
        "",
        "Directory put in front of Python's search path, so that the settings can be imported."
        " Empty: the working directory, behind everything else.",
        kinds.DIRECTORY,
    )
    python: str = option(
        "",
        "",
        "The site's virtual environment, or the Python in it. Django, django-sesame, the database's"
        " driver and what the project imports are then taken from there, before what is installed"
        " beside notifyd. Its Python has to be of the same minor version as notifyd's.",
        kinds.DIRECTORY,
    )
    cache: str = option(
        "default",
        "",
        "The alias in the site's CACHES whose address serves when neither redis.url nor the site's"
        ' NOTIFYD["REDIS_URL"] names one.',
        kinds.WORD,
    )
    database: str = option(
        "",
        "",
        "The site's database, for a site whose project is not imported: with it, secret_key and"
        " redis.url, notifyd brings the settings. SELECT on the tables of users, groups,"
        " permissions and content types is all that it needs there.",
        kinds.DATABASE_URL,
        secret=True,
    )
    secret_key: str = option(
        "",
        "",
        "With database: the site's SECRET_KEY, by which tokens and tickets are signed.",
        kinds.SECRET,
        secret=True,
    )
    secret_key_fallbacks: tuple[str, ...] = option(
        (),
        "",
        "With database: the site's SECRET_KEY_FALLBACKS, while it changes its key.",
        kinds.SECRET,
        secret=True,
    )
    user_table: str = option(
        "auth_user",
        "",
        "With database: the table of the site's users. One of a user model of the site's own has to"
        " have the columns id, password, last_login, is_superuser and is_active.",
        kinds.IDENTIFIER,
    )
    user_model: str = option(
        "",
        "",
        "With another user_table: the name of the model, as in AUTH_USER_MODEL behind the dot."
        " Empty: what follows the last _ of the table, as Django names tables.",
        kinds.IDENTIFIER_OR_EMPTY,
    )
    user_pk: str = option(
        "bigint",
        "",
        "With another user_table: the type of its column id. Tokens differ by it: bigint is a"
        " BigAutoField, integer an AutoField.",
        kinds.choice("bigint", "integer", "uuid", "text"),
    )
    user_name: str = option(
        "username",
        "",
        "With another user_table: the column of the names by which people log in.",
        kinds.IDENTIFIER,
    )
