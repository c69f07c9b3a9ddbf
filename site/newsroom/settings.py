"""Settings of the newsroom: an ordinary Django site that wants live notifications.

The environment may set NEWSROOM_DATABASE (the path of a SQLite file, or a postgresql:// URL),
NEWSROOM_REDIS (the URL of the cache), NEWSROOM_WEBSOCKET (where browsers reach notifyd, if not at
its usual port), SECRET_KEY, and DEBUG (0 to turn it off).
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent

# Good for trying out and for tests. Whoever knows the key can make tokens for every user.
SECRET_KEY = os.environ.get("SECRET_KEY", "only-for-development-set-SECRET_KEY-in-production")
DEBUG = os.environ.get("DEBUG", "1").lower() not in {"", "0", "false", "no", "off"}
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "notifyd.django",
    "articles",
]

MIDDLEWARE = [
    # First, so that no query comes before it: what a page shows is then no older than the position
    # in the stream from which it gets events.
    "notifyd.django.middleware.PositionMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "newsroom.urls"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # These come before the admin's, which they extend.
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def database(address: str) -> dict[str, Any]:
    """Return what DATABASES takes for a postgresql:// URL or the path of a SQLite file."""
    url = urlsplit(address)
    if url.scheme not in {"postgres", "postgresql"}:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": address}
    # A Unix socket has no place before the path: libpq, too, takes ?host=/directory for it.
    options = dict(parse_qsl(url.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(url.path.removeprefix("/")),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": options.pop("host", url.hostname or ""),
        "PORT": str(options.pop("port", url.port or "")),
        "OPTIONS": options,
    }


DATABASES = {
    "default": database(os.environ.get("NEWSROOM_DATABASE", str(BASE_DIR / "newsroom.sqlite3"))),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The event bus is reached at the address of this cache. Nothing else is in it, so nobody will
# clear it, which would empty the database: there is no need for notifyd's warning.
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ.get("NEWSROOM_REDIS", "redis://127.0.0.1:6379/1"),
    },
}

SILENCED_SYSTEM_CHECKS = ["notifyd.W006"]

NOTIFYD = {"URL": os.environ.get("NEWSROOM_WEBSOCKET")}

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "sesame.backends.ModelBackend",
]

# In seconds: a page has to load and connect within this time after its token was made.
SESAME_MAX_AGE = 30
# Version 1 has no scopes: its tokens would be good for logging in to the site as well.
SESAME_TOKENS = ["sesame.tokens_v2"]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
