from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core import serializers
from django.db import connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils.module_loading import import_string
from newsrooms import FAST, model
from servers import LOOPBACK, free_port
from waiting import wait_until

from notifyd.django import PublishError, notify, notify_disconnect
from notifyd.django.stats import stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streams import Stream

    Written = Callable[[], list[dict[str, Any]]]
    Run = Callable[[str, str], str]

pytest_plugins = ["newsroom_fixtures"]
pytestmark = pytest.mark.usefixtures("newsroom", "fast")


@pytest.fixture
def fast() -> Iterator[None]:
    """Have passwords hashed fast."""
    with override_settings(**FAST):
        yield


@pytest.fixture
def nadia() -> Any:
    """Give an editor."""
    return get_user_model().objects.get(username="nadia")


@pytest.fixture
def editors() -> Any:
    """Give her group."""
    return model("auth.Group").objects.get(name="editors")


@pytest.fixture
def permission() -> Any:
    """Give a permission that nobody but the superuser has."""
    return model("auth.Permission").objects.get(codename="add_user")


def users(*people: Any) -> dict[str, Any]:
    """Return the entry with the recheck of some users."""
    return {"recheck": {"users": sorted(str(each.pk) for each in people)}}


def groups(*keys: Any) -> dict[str, Any]:
    """Return the entry with the recheck of some groups' members."""
    return {"recheck": {"groups": sorted(map(str, keys))}}


def with_login(user: Any) -> dict[str, Any]:
    """Return the entry of a user who may see something else and has to log in anew."""
    return {**users(user), "reauthenticate": {"users": [str(user.pk)]}}


EVERYONE = {"recheck": {"all": True}}


@pytest.mark.parametrize("flag", ["is_active", "is_staff", "is_superuser"])
def test_flags(flag: str, written: Written, nadia: Any) -> None:
    """Who is deactivated, or becomes or is no more staff or superuser, is looked at anew."""
    for value in (not getattr(nadia, flag), getattr(nadia, flag)):
        setattr(nadia, flag, value)
        nadia.save()
    assert written() == [users(nadia), users(nadia)]


def test_some_fields(written: Written, nadia: Any) -> None:
    """It is the same if only some fields are saved, or loaded."""
    nadia.save(update_fields=["is_active"])
    get_user_model().objects.only("email").get(pk=nadia.pk).save()
    get_user_model().objects.defer("password").get(pk=nadia.pk).save()
    assert written() == [users(nadia)] * 3


def test_last_login(written: Written, nadia: Any) -> None:
    """A log-in changes nothing but the time of the last one, and publishes nothing."""
    nadia.save(update_fields=["last_login"])
    nadia.save(update_fields=[])
    Client().force_login(nadia)
    assert written() == []


def test_created(written: Written) -> None:
    """Somebody new has no connection yet, but perhaps a key that somebody had before."""
    created = model("auth.User").objects.create_user("zora", password="a")
    assert written() == [users(created)]


def test_deleted(written: Written, nadia: Any) -> None:
    """Who is deleted is looked at, too, in whatever way it is done."""
    omar = get_user_model().objects.get(username="omar")
    pages = [users(nadia), users(omar)]
    nadia.delete()
    get_user_model().objects.filter(pk=omar.pk).delete()
    assert written() == pages


def test_fixture(written: Written, nadia: Any) -> None:
    """A fixture that is loaded changes a user as well as anybody."""
    before = serializers.serialize("json", [nadia])
    nadia.set_password("b")
    nadia.save()
    for each in serializers.deserialize("json", before):
        each.save()
    assert written() == [with_login(nadia)] * 2


def test_password(written: Written, nadia: Any) -> None:
    """A new password ends sessions, whichever way it is set."""
    nadia.set_password("b")
    nadia.save()
    nadia.password = make_password("c")
    nadia.save(update_fields=["password"])
    nadia.set_unusable_password()
    nadia.save()
    assert written() == [with_login(nadia)] * 3


def test_password_is_the_same(written: Written, nadia: Any) -> None:
    """A user who is saved with the password of before stays logged in, and so on the next time."""
    nadia.set_password("b")
    nadia.save()
    nadia.save()
    nadia.set_password("not saved")
    nadia.save(update_fields=["email"])
    assert written() == [with_login(nadia), users(nadia), users(nadia)]


def test_password_of_before(written: Written, nadia: Any) -> None:
    """Somebody who is loaded, changed elsewhere and then saved gets the old password back."""
    again = get_user_model().objects.get(pk=nadia.pk)
    again.set_password("b")
    again.save()
    nadia.save()
    assert written() == [with_login(nadia)] * 2


def test_password_that_is_not_saved(written: Written, nadia: Any) -> None:
    """When saving fails nothing is published, and the next time counts what is saved then."""
    nadia.set_password("b")
    nadia.username = "omar"
    with pytest.raises(Exception, match="UNIQUE"), transaction.atomic():
        nadia.save()
    nadia.refresh_from_db()
    nadia.save()
    assert written() == [users(nadia)]


def test_password_by_another_hasher(written: Written, nadia: Any) -> None:
    """A hash that is made anew at the log-in ends the other sessions, as Django has it."""
    data = {"username": "nadia", "password": "b"}
    both = [*FAST["PASSWORD_HASHERS"], "django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    with override_settings(PASSWORD_HASHERS=both):
        nadia.password = make_password("b", hasher="pbkdf2_sha256")
        nadia.save()
        assert Client().post("/admin/login/?next=/admin/", data).status_code == 302
    assert written() == [with_login(nadia)] * 2


def test_queries(stream: Stream, nadia: Any) -> None:
    """Saving a user costs one query more, and none where the password isn't saved."""
    assert stream.server.pid
    with CaptureQueriesContext(connections["default"]) as queries:
        nadia.save()
    assert [each["sql"].split()[0] for each in queries] == ["SELECT", "UPDATE"]
    assert nadia.password not in queries[0]["sql"]
    with CaptureQueriesContext(connections["default"]) as queries:
        nadia.save(update_fields=["is_active"])
    assert [each["sql"].split()[0] for each in queries] == ["UPDATE"]


def test_log_out(written: Written, nadia: Any) -> None:
    """Who logs out has to show another token; where nobody was logged in nobody does."""
    client = Client()
    client.logout()
    client.force_login(nadia)
    client.post("/admin/logout/")
    assert written() == [{"reauthenticate": {"users": [str(nadia.pk)]}}]


def test_log_out_in_a_transaction(written: Written, nadia: Any) -> None:
    """Until the transaction with the session is committed, a page could get another token."""
    client = Client()
    client.force_login(nadia)
    with transaction.atomic():
        client.logout()
        assert written() == []
    assert written() == [{"reauthenticate": {"users": [str(nadia.pk)]}}]


def test_groups(written: Written, nadia: Any, editors: Any) -> None:
    """Who comes into a group or leaves it is looked at anew."""
    nadia.groups.remove(editors)
    nadia.groups.add(editors)
    nadia.groups.clear()
    nadia.groups.set([editors])
    assert written() == [users(nadia)] * 4


def test_members(written: Written, nadia: Any, editors: Any) -> None:
    """It is the same from the group's side; a group that is emptied is named instead."""
    omar = get_user_model().objects.get(username="omar")
    editors.user_set.remove(nadia, omar)
    editors.user_set.add(nadia, omar)
    editors.user_set.clear()
    editors.user_set.set([nadia])
    assert written() == [users(nadia, omar)] * 2 + [groups(editors.pk), users(nadia)]


def test_permissions(written: Written, nadia: Any, permission: Any) -> None:
    """Who is granted a permission or loses it is looked at anew."""
    nadia.user_permissions.add(permission)
    nadia.user_permissions.remove(permission)
    nadia.user_permissions.set([permission])
    nadia.user_permissions.clear()
    assert written() == [users(nadia)] * 4


def test_holders(written: Written, nadia: Any, permission: Any) -> None:
    """It is the same from the permission's side, where clearing names who had it."""
    omar = get_user_model().objects.get(username="omar")
    permission.user_set.add(nadia, omar)
    permission.user_set.remove(omar)
    permission.user_set.add(omar)
    permission.user_set.clear()
    permission.user_set.clear()
    both = users(nadia, omar)
    assert written() == [both, users(omar), users(omar), both]


def test_permissions_of_groups(written: Written, editors: Any, permission: Any) -> None:
    """What a group may see concerns all its members."""
    editors.permissions.add(permission)
    editors.permissions.remove(permission)
    editors.permissions.clear()
    assert written() == [groups(editors.pk)] * 3


def test_groups_of_permissions(written: Written, editors: Any, permission: Any) -> None:
    """It is the same from the permission's side, where clearing names the groups that had it."""
    reporters = model("auth.Group").objects.get(name="reporters")
    permission.group_set.add(editors, reporters)
    permission.group_set.remove(reporters)
    permission.group_set.clear()
    assert written() == [
        groups(editors.pk, reporters.pk),
        groups(reporters.pk),
        groups(editors.pk),
    ]


def test_nothing_new(written: Written, nadia: Any, editors: Any) -> None:
    """What was so before is no news."""
    nadia.groups.add(editors)
    editors.user_set.add(nadia)
    nadia.groups.set([editors])
    nadia.groups.add()
    assert written() == []


def test_group_deleted(written: Written, editors: Any) -> None:
    """The members of a group that is deleted are looked at; a name or a new group are no matter."""
    model("auth.Group").objects.create(name="cooks")
    editors.name = "chiefs"
    editors.save()
    key = editors.pk
    editors.delete()
    model("auth.Group").objects.all().delete()
    assert written()[0] == groups(key)
    assert len(written()) == 2


def test_permission_changed(written: Written, permission: Any) -> None:
    """A permission that is made, changed or deleted may be anybody's."""
    kind = permission.content_type
    made = model("auth.Permission").objects.create(content_type=kind, codename="a", name="a")
    made.codename = "b"
    made.save()
    permission.delete()
    assert written() == [EVERYONE] * 3


def test_content_type_deleted(written: Written) -> None:
    """A content type takes its permissions along, all in one entry."""
    model("contenttypes.ContentType").objects.get(model="article").delete()
    assert written() == [EVERYONE]


def test_content_type_created(written: Written) -> None:
    """Whoever may see everything may see a new content type, too."""
    model("contenttypes.ContentType").objects.create(app_label="new", model="thing")
    model("contenttypes.ContentType").objects.clear_cache()
    assert written() == [EVERYONE]


def test_in_bulk(written: Written, nadia: Any) -> None:
    """Of what is done past the signals nobody is told."""
    get_user_model().objects.filter(pk=nadia.pk).update(is_active=False)
    get_user_model().objects.bulk_create([get_user_model()(username="a")])
    nadia.groups.through.objects.all().delete()
    assert written() == []


def test_one_entry(written: Written, nadia: Any, editors: Any, permission: Any) -> None:
    """What one transaction does is one entry, before its events, whatever was undone."""
    with transaction.atomic():
        notify({"n": 1}, everyone=True)
        nadia.set_password("b")
        nadia.save()
        with transaction.atomic():
            permission.delete()
            transaction.set_rollback(True)
        editors.permissions.clear()
        notify_disconnect(nadia)
    assert written() == [
        {
            "recheck": {"users": [str(nadia.pk)], "groups": [str(editors.pk)]},
            "disconnect": {"users": [str(nadia.pk)]},
            "reauthenticate": {"users": [str(nadia.pk)]},
        },
        {"n": 1},
    ]


def test_rollback(written: Written, nadia: Any, editors: Any) -> None:
    """What is rolled back was no change."""
    with transaction.atomic():
        nadia.save()
        nadia.groups.clear()
        editors.delete()
        transaction.set_rollback(True)
    assert written() == []


def test_another_database(written: Written, other: str, nadia: Any) -> None:
    """What counts is the transaction of the database that is written to."""
    tables = ("auth.User", "auth.Group", "auth.Permission", "contenttypes.ContentType")
    with connections[other].schema_editor() as editor:
        for name in tables:
            editor.create_model(model(name))
    nadia.pk = None
    with transaction.atomic(using=other):
        nadia.save(using=other)
        with transaction.atomic():
            pass
        assert written() == []
    assert written() == [users(nadia)]


def test_admin(written: Written, nadia: Any, permission: Any) -> None:
    """The form of the admin makes one entry, and the admin's event comes after it."""
    client = Client()
    client.force_login(get_user_model().objects.get(username="admin"))
    data = {
        "username": "nadia",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "12:00:00",
        "is_active": "on",
        "user_permissions": [permission.pk],
    }
    assert client.post(f"/admin/auth/user/{nadia.pk}/change/", data).status_code == 302
    assert set(nadia.user_permissions.all()) == {permission}
    assert not nadia.groups.exists()
    control, event = written()
    assert control == users(nadia)
    assert event["message"] == "Changed Staff status, Groups, User permissions and Date joined."


def test_redis_away(stream: Stream, written: Written, nadia: Any) -> None:
    """While Redis is away all is saved, its events wait, and it is told afterwards."""
    with stream.server.stopped():
        with transaction.atomic():
            nadia.is_active = False
            nadia.save()
            notify({"n": 1}, everyone=True)
        with pytest.raises(PublishError):
            notify({"n": 2}, everyone=True, required=True)
        assert not get_user_model().objects.get(pk=nadia.pk).is_active
    wait_until(lambda: stats.controls_pending == 0)
    notify({"n": 3}, everyone=True)
    assert written() == [users(nadia), {"n": 3}]


def test_manual(written: Written, nadia: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Without autocommit users can be saved, and it is logged that nobody is told."""
    transaction.set_autocommit(False)
    try:
        nadia.save()
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert written() == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "without autocommit" in caplog.text


def test_disabled(stream: Stream, written: Written, nadia: Any) -> None:
    """With ENABLED False nothing is published, and saving a user costs nothing more."""
    with (
        override_settings(NOTIFYD={"ENABLED": False}),
        stream.server.stopped(),
        CaptureQueriesContext(connections["default"]) as queries,
    ):
        nadia.save()
    assert len(queries) == 1
    assert written() == []


def test_connect_again(written: Written, nadia: Any) -> None:
    """Connecting again tells of nothing twice."""
    import_string("notifyd.django.revocation.connect")()
    nadia.groups.clear()
    nadia.user_permissions.clear()
    nadia.save()
    assert written() == [users(nadia)] * 3


SETTINGS = """
SECRET_KEY = "not a secret"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
INSTALLED_APPS = [f"django.contrib.{{app}}" for app in ("auth", "contenttypes")]
INSTALLED_APPS += ["notifyd.django", *{apps}]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
NOTIFYD = {{"REDIS_URL": "{url}"}}
"""

SETUP = """
import time
import django
django.setup()
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
"""

PEOPLE = """
import uuid
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, Group
from django.db import models

class Person(AbstractBaseUser):
    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=9, unique=True)
    logins = models.IntegerField(default=0)
    USERNAME_FIELD = "name"
    objects = BaseUserManager()
    teams = models.ManyToManyField(Group, through="Membership")

    def get_session_auth_hash(self):
        return f"{self.logins}"

class Guest(Person):
    class Meta:
        proxy = True

class Employee(Person):
    number = models.AutoField(primary_key=True)
    person = models.OneToOneField(Person, models.CASCADE, parent_link=True)

class Membership(models.Model):
    person = models.ForeignKey(Person, models.CASCADE)
    group = models.ForeignKey(Group, models.CASCADE)
"""

DEEDS = """
from django.contrib.auth.models import Group
from notifyd.django import notify_disconnect
from people.models import Employee, Guest, Membership, Person
guest, employee, team = Guest(name="a"), Employee(name="b"), Group.objects.create(name="c")
guest.save()
employee.save()
guest.logins = 1
guest.save(update_fields=["logins"])
member = Membership.objects.create(person=guest, group=team)
member.delete()
guest.teams.add(team)
team.person_set.clear()
notify_disconnect([guest, employee.person_id])
employee.delete()
print(guest.pk, employee.person_id)
"""


def test_own_user_model(tmp_path: Path, run: Run, written: Written, stream: Stream) -> None:
    """A model of the site's own counts, its proxies and heirs, and its way to groups."""
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "models.py").write_text(PEOPLE)
    settings = SETTINGS.format(url=stream.server.url, apps=["people"])
    settings += 'AUTH_USER_MODEL = "people.Person"\n'
    guest, employee = run(settings, SETUP + DEEDS).split()
    of_guest, of_employee = ({"recheck": {"users": [each]}} for each in (guest, employee))
    assert written() == [
        of_guest,
        of_employee,
        {**of_guest, "reauthenticate": {"users": [guest]}},
        of_guest,
        of_guest,
        of_guest,
        # Its rows tell of themselves, besides.
        {"recheck": {"users": [guest], "groups": ["1"]}},
        {"disconnect": {"users": sorted([guest, employee])}},
        of_employee,
    ]


def test_migrate(run: Run) -> None:
    """Migrating an empty database without a Redis there works, and without a word."""
    url = f"redis://{LOOPBACK}:{free_port()}/0"
    script = SETUP + (
        "from django.contrib.auth.models import Permission\n"
        "from notifyd.django.publisher import stats\n"
        "print(Permission.objects.count() > 9, stats.controls_failed)\n"
    )
    assert run(SETTINGS.format(url=url, apps=[]), script) == "True 0"


def test_no_users(run: Run) -> None:
    """A site that has no users can have the app all the same."""
    settings = (
        "INSTALLED_APPS = ['notifyd.django']\n"
        "CACHES = {'default': {'BACKEND': 'django_redis.cache.RedisCache', 'LOCATION': ''}}\n"
    )
    assert run(settings, "import django\ndjango.setup()\nprint('ready')\n") == "ready"
