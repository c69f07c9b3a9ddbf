"""Fill the database of the newsroom with readers of articles.

Prints the id of the content type they see, then a token for each of them.

Usage: people.py COUNT
"""

from __future__ import annotations

import sys
from typing import Any

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402 - needs django.setup()
from django.contrib.auth.models import Permission  # noqa: E402 - the same
from django.core.management import call_command  # noqa: E402 - the same
from sesame.utils import get_token  # noqa: E402 - the same

call_command("migrate", verbosity=0)
permission = Permission.objects.get(codename="view_article")
print(permission.content_type_id)
for number in range(int(sys.argv[1])):
    reader: Any = get_user_model().objects.create(username=f"reader{number}", password="!")  # noqa: S106 - no password matches it
    reader.user_permissions.add(permission)
    print(get_token(reader))
