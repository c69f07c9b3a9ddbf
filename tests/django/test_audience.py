from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.test.utils import isolate_apps
from django.utils.functional import SimpleLazyObject
from newsrooms import Newsroom, model

from notifyd.core.events import Rule
from notifyd.django.audience import NOBODY, to_rule

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["newsroom_fixtures"]


@pytest.fixture(autouse=True)
def _content_types(newsroom: Newsroom) -> Iterator[None]:
    assert isinstance(newsroom, Newsroom)
    # It remembers the rows of another test's database.
    model("contenttypes.ContentType").objects.clear_cache()
    yield
    model("contenttypes.ContentType").objects.clear_cache()


def rule(**keywords: Any) -> Rule | None:
    """Return what some of the keywords mean."""
    nothing = dict.fromkeys(("users", "groups", "permissions", "content_types", "match"))
    return to_rule(**{**nothing, "everyone": False, **keywords})


def content_type(name: str) -> str:
    """Return the key of a model's content type."""
    return str(model("contenttypes.ContentType").objects.get(model=name).pk)


def test_none() -> None:
    """Without a keyword there is no rule: the event's content type decides."""
    assert rule() is None
    assert rule(match="any") is None


def test_users() -> None:
    """Users are given as objects, also those of a request or of a query, or by their keys."""
    users = get_user_model().objects.filter(username__in=["nadia", "omar"])
    keys = frozenset(str(user.pk) for user in users)
    assert rule(users=users) == Rule(users=keys)
    assert rule(users=[int(key) for key in keys]) == Rule(users=keys)
    assert rule(users=iter(keys)) == Rule(users=keys)
    key = uuid.uuid4()
    assert rule(users=(key,)) == Rule(users=frozenset({str(key)}))


def test_lazy_user() -> None:
    """The user of a request is a user."""
    nadia = get_user_model().objects.get(username="nadia")
    lazy = SimpleLazyObject(lambda: nadia)
    assert rule(users=[lazy]) == Rule(users=frozenset({str(nadia.pk)}))


def test_groups() -> None:
    """Groups are given as objects or by their keys."""
    group = model("auth.Group").objects.get(name="editors")
    assert rule(groups=[group, 99]) == Rule(groups=frozenset({str(group.pk), "99"}))


def test_permissions() -> None:
    """Permissions are given as objects or by their names."""
    permission = model("auth.Permission").objects.get(codename="change_article")
    assert rule(permissions=[permission, "auth.view_user"]) == Rule(
        permissions=frozenset({"articles.change_article", "auth.view_user"})
    )


def test_content_types() -> None:
    """Content types are given as objects, as models or objects of these, or by their keys."""
    kinds = model("contenttypes.ContentType").objects
    articles = model("articles.Article")
    expected = Rule(content_types=frozenset({content_type("article")}))
    assert rule(content_types=[articles]) == expected
    assert rule(content_types=[articles.objects.first()]) == expected
    assert rule(content_types=[kinds.get(model="article")]) == expected
    assert rule(content_types=[content_type("article")]) == expected
    assert rule(content_types=[int(content_type("article"))]) == expected


def test_everyone() -> None:
    """Everyone is everyone who is connected."""
    assert rule(everyone=True) == Rule(everyone=True)


def test_any() -> None:
    """Of several keywords any may be enough."""
    expected = Rule(users=frozenset({"1"}), groups=frozenset({"2"}), everyone=True)
    assert rule(users=[1], groups=[2], everyone=True, match="any") == expected
    assert rule(users=[1], match="any") == Rule(users=frozenset({"1"}))


def test_all() -> None:
    """Of several keywords all may have to be met, each by any of its items."""
    expected = Rule(
        all=(
            Rule(users=frozenset({"1", "2"})),
            Rule(permissions=frozenset({"articles.view_article"})),
        )
    )
    assert rule(users=[1, 2], permissions=["articles.view_article"], match="all") == expected


@pytest.mark.parametrize("match", [None, "both", True, ["any"]])
def test_match_is_said(match: Any) -> None:
    """With several keywords it must be said whether any or all of them count."""
    with pytest.raises(ValueError, match='"any" or'):
        rule(users=[1], groups=[], match=match)


def test_all_of_one() -> None:
    """That "all" concerns the items of one keyword is a misunderstanding, which would widen."""
    with pytest.raises(ValueError, match="several keywords"):
        rule(permissions=["articles.view_article", "articles.view_comment"], match="all")


def test_empty_is_nobody() -> None:
    """An empty list means nobody, and never that the keyword was not given."""
    assert rule(users=()) == NOBODY
    assert rule(users=get_user_model().objects.none()) == NOBODY
    assert rule(users=[], groups=[], match="any") == NOBODY
    assert rule(users=[], groups=[1], match="any") == Rule(groups=frozenset({"1"}))
    assert rule(users=[], groups=[1], match="all") == NOBODY


@pytest.mark.parametrize(
    "keywords",
    [
        {"users": "12"},
        {"users": b"12"},
        {"users": 12},
        {"users": {1: "nadia"}},
        {"users": [True]},
        {"users": [1.0]},
        {"users": [None]},
        {"users": [b"1"]},
        {"groups": [SimpleNamespace(pk=1)]},
        {"permissions": "articles.view_article"},
        {"permissions": [1]},
        {"content_types": [int]},
        {"everyone": 1},
        {"everyone": "no"},
        {"everyone": None},
    ],
)
def test_wrong_type(keywords: dict[str, Any]) -> None:
    """What isn't understood entirely is refused."""
    with pytest.raises(TypeError):
        rule(**keywords)


def test_another_model() -> None:
    """The key of another model's object would mean somebody else."""
    user = get_user_model().objects.first()
    group = model("auth.Group").objects.first()
    with pytest.raises(TypeError, match="a Group is no User"):
        rule(users=[group])
    with pytest.raises(TypeError, match="a User is no Group"):
        rule(groups=[user])
    with pytest.raises(TypeError, match="permissions takes"):
        rule(permissions=[user])


def test_without_key() -> None:
    """An object that was never saved stands for nobody."""
    with pytest.raises(ValueError, match="never saved"):
        rule(users=[get_user_model()()])


def test_name_of_a_model() -> None:
    """A model's name is no key of a content type."""
    with pytest.raises(ValueError, match="content_types takes"):
        rule(content_types=["articles.article"])


@isolate_apps("articles")
def test_proxy() -> None:
    """A proxy model has a content type of its own, which is the one in the admin's log."""
    article: Any = model("articles.Article")

    class Column(article):  # type: ignore[misc]
        class Meta:
            app_label = "articles"
            proxy = True

    found = rule(content_types=[Column])
    assert found == Rule(content_types=frozenset({content_type("column")}))
