"""What is done at the site, on demand: a line of JSON names it, another has what came of it.

It keeps to what notifyd promises to sites, because every version has to be able to run it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django
from django.apps import apps
from django.core.management import call_command
from django.test import Client
from django.utils.module_loading import import_string

import notifyd
from notifyd.django import notify

# Who is there, and what they were granted: to view something, or to change it.
PEOPLE: dict[str, list[str]] = {
    "root": [],
    "nadia": ["view_group"],
    "omar": ["change_user"],
    "rosa": [],
}


def model(name: str) -> Any:
    """Return a model, which can't be imported before the site is set up."""
    return apps.get_model(name)


def user(name: str) -> Any:
    """Return somebody."""
    return model("auth.User").objects.get(username=name)


def browser(name: str) -> Client:
    """Return the browser of somebody who is logged in."""
    client = Client(headers={"host": "localhost"})
    client.force_login(user(name))
    return client


def version() -> dict[str, str]:
    """Tell which notifyd this is."""
    return {"version": notifyd.__version__, "file": str(notifyd.__file__)}


def prepare() -> None:
    """Make the tables and the people; omar is at the desk."""
    call_command("migrate", verbosity=0)
    for name, permissions in PEOPLE.items():
        # Any text is the key of a token, and no hash means a password that nobody has.
        person = model("auth.User").objects.create(username=name, password="recorded")
        person.is_superuser = person.is_staff = name == "root"
        person.save()
        granted = model("auth.Permission").objects.filter(codename__in=permissions)
        person.user_permissions.set(granted)
    model("auth.Group").objects.create(name="desk").user_set.add(user("omar"))


def people() -> dict[str, Any]:
    """Tell what everybody was granted, and so may see."""
    kinds = model("contenttypes.ContentType").objects.all()
    return {
        person.username: {
            "user": str(person.pk),
            "permissions": sorted(person.get_user_permissions()),
            "content_types": [
                kind.pk
                for kind in kinds
                if person.user_permissions.filter(content_type=kind).exists()
            ],
            "groups": [group.pk for group in person.groups.all()],
            "superuser": person.is_superuser,
        }
        for person in model("auth.User").objects.all()
    }


def ask(name: str) -> dict[str, str]:
    """Have somebody's page ask for a token, and return the answer."""
    answer: dict[str, str] = browser(name).post("/notifyd/token/").json()
    return answer


def accept(token: str, scope: str) -> str:
    """Return whose token it is in this scope, however old it may be."""
    get_user = import_string("sesame.utils.get_user")
    return str(get_user(token, scope=scope, max_age=10**10))


def open_session(name: str) -> str:
    """Return the key of somebody's session."""
    return str(browser(name).cookies["sessionid"].value)


def act() -> None:
    """Publish events of every kind, the admin's and others."""
    root, groups = browser("root"), model("auth.Group").objects
    for name in ("gardeners", "cooks"):
        root.post("/admin/auth/group/add/", {"name": name})
    gone = [group.pk for group in groups.exclude(name="desk")]
    deletion = {"action": "delete_selected", "_selected_action": gone, "post": "yes"}
    root.post("/admin/auth/group/", deletion)
    desk = groups.get()
    notify({"label": "user"}, users=[user("rosa")])
    notify({"label": "group"}, groups=[desk])
    notify({"label": "permission"}, permissions=["auth.change_user"])
    notify({"label": "content type"}, content_types=[type(desk)])
    notify({"label": "any"}, users=[user("nadia")], groups=[desk], match="any")
    notify({"label": "all"}, groups=[desk], permissions=["auth.change_user"], match="all")
    notify({"label": "everyone", "text": "Grüße, \u2603"}, everyone=True)


# Who gets which of them, in order.
RECIPIENTS = {
    "Added. gardeners": {"root", "nadia"},
    "Added. cooks": {"root", "nadia"},
    "Deleted. cooks": {"root", "nadia"},
    "Deleted. gardeners": {"root", "nadia"},
    "user": {"rosa"},
    "group": {"omar"},
    "permission": {"root", "omar"},
    "content type": {"root", "nadia"},
    "any": {"nadia", "omar"},
    "all": {"omar"},
    "everyone": {"root", "nadia", "omar", "rosa"},
}


def label(event: dict[str, Any]) -> str:
    """Return how an event is called above."""
    if "label" in event:
        return str(event["label"])
    return f"{event['message'] or 'Deleted.'} {event['object']}"


DEEDS = {each.__name__: each for each in (version, prepare, people, ask, accept, open_session, act)}


def main() -> None:
    """Do what is asked for, until there is nothing more."""
    django.setup()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(DEEDS[name](*arguments)), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
