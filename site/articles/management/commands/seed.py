from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils import timezone

from articles.models import Article

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# Everybody's, made for the demonstration: it is no secret.
PASSWORD = "newsroom"  # noqa: S105 - see above

GROUPS = {
    "editors": [
        f"{verb}_{what}"
        for verb in ("view", "change", "add", "delete")
        for what in ("article", "comment")
    ],
    "reporters": ["view_comment", "change_comment"],
}


class Person(NamedTuple):
    """Somebody who works in the newsroom."""

    username: str
    group: str | None = None
    superuser: bool = False
    active: bool = True


PEOPLE = [
    Person("admin", superuser=True),
    Person("nadia", "editors"),
    Person("omar", "editors"),
    Person("rosa", "reporters"),
    Person("ines", "editors", active=False),
]

# The comments on each article: who wrote what.
ARTICLES = {
    "The harbour freezes over": [
        ("Lena", "My ferry was the last one in."),
        ("Piet", "We walked across to the lighthouse and back."),
    ],
    "A bakery closes after ninety years": [
        ("Tom", "Their rye bread will be missed."),
    ],
    "Night trains return to the coast line": [
        ("Amira", "At last! Will they take bicycles?"),
        ("Jonas", "I have booked the first one."),
    ],
    "School choir wins the regional prize": [],
    "Lighthouse keeper retires after forty winters": [
        ("Ole", "Thank you for every single night."),
    ],
    "Library lends bicycles from spring": [],
}


class Command(BaseCommand):
    """Seed the newsroom: people, what they may do, and something to read."""

    help = (
        "Create the newsroom's people where they don't exist yet, and articles if there are none."
    )

    @transaction.atomic
    def handle(self, **_: object) -> None:
        """Run the command. Running it again changes nothing but what people may do."""
        for name, codenames in GROUPS.items():
            group, _created = Group.objects.get_or_create(name=name)
            wanted = Permission.objects.filter(
                content_type__app_label="articles", codename__in=codenames
            )
            group.permissions.set(wanted)
        for person in PEOPLE:
            self._employ(person)
        if not Article.objects.exists():
            self._write()
        names = ", ".join(person.username for person in PEOPLE)
        self.stdout.write(f"{names}: the password is {PASSWORD!r}, ines can't log in.")

    def _write(self) -> None:
        for number, (headline, comments) in enumerate(ARTICLES.items()):
            published = timezone.now() - number * timedelta(hours=7, minutes=40)
            article = Article.objects.create(headline=headline, published=published)
            for author, text in comments:
                article.comments.create(author=author, text=text)

    def _employ(self, person: Person) -> None:
        people = get_user_model()
        user: User
        user, created = people.objects.get_or_create(
            username=person.username,
            defaults={
                "is_staff": True,
                "is_superuser": person.superuser,
                "is_active": person.active,
            },
        )
        # A password that is set again gets a new hash, which ends sessions and tokens.
        if created:
            user.set_password(PASSWORD)
            user.save(update_fields=["password"])
        user.groups.set(Group.objects.filter(name=person.group))
