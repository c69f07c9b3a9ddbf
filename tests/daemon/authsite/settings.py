"""A site with a user model of its own, which AUTHSITE_USER names."""

import os

SECRET_KEY = "for this test"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "members"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["AUTHSITE_DATABASE"],
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = os.environ["AUTHSITE_USER"]
AUTHENTICATION_BACKENDS = ["sesame.backends.ModelBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SESAME_MAX_AGE = 30
USE_TZ = True
