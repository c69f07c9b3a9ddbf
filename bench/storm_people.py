"""Fill the database of the newsroom with people who return together.

All of them may view articles, half by a group and half directly; besides, each is in two groups
and has two permissions of their own, as people of a site do.

Prints the id of the content type that all of them see, then two tokens for each of them: an
unscoped one as the guide makes them, and one for notifyd.

Usage: storm_people.py COUNT
"""

from __future__ import annotations

import sys
from itertools import cycle, islice
from typing import Any

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402 - needs django.setup()
from django.contrib.auth.models import Group, Permission  # noqa: E402 - the same
from django.core.management import call_command  # noqa: E402 - the same
from django.db import transaction  # noqa: E402 - the same
from sesame.utils import get_token  # noqa: E402 - the same

GROUPS = 10
"""Groups beside that of the readers, with three permissions each."""


@transaction.atomic
def fill(count: int) -> list[Any]:
    """Make the groups and the people, and return these."""
    article = Permission.objects.get(codename="view_article")
    # None of the others lets anybody see articles.
    others = Permission.objects.exclude(content_type=article.content_type).order_by("pk")
    permissions = cycle(others)
    readers = Group.objects.create(name="readers")
    readers.permissions.add(article)
    groups = [Group.objects.create(name=f"group {number}") for number in range(GROUPS)]
    for group in groups:
        group.permissions.add(*islice(permissions, 3))
    people = []
    for number in range(count):
        person: Any = get_user_model().objects.create(username=f"reader{number}", password="!")  # noqa: S106 - no password matches it
        person.groups.add(groups[number % GROUPS], groups[number // GROUPS % GROUPS])
        person.user_permissions.add(*islice(permissions, 2))
        if number % 2:
            person.user_permissions.add(article)
        else:
            person.groups.add(readers)
        people.append(person)
    return people


call_command("migrate", verbosity=0)
persons = fill(int(sys.argv[1]))
print(Permission.objects.get(codename="view_article").content_type_id)
for each in persons:
    print(get_token(each), get_token(each, "notifyd"))
