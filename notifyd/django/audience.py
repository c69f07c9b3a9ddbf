"""Who is to see an event: from the objects and keys that a site has to the rule of the bus."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models import Model

from notifyd.core.events import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

Match = Literal["any", "all"]

NOBODY: Final = Rule()
"""The rule that matches nobody. It can't be written to the bus: there is no use in it."""


def to_rule(
    *,
    users: Iterable[Any] | None,
    groups: Iterable[Any] | None,
    permissions: Iterable[Any] | None,
    content_types: Iterable[Any] | None,
    everyone: bool,
    match: Match | None,
) -> Rule | None:
    """Return the rule that the keywords of `notify` mean, None if there is none of them.

    Raises TypeError and ValueError for what can't be understood entirely: it never widens.
    """
    if match not in (None, "any", "all"):
        raise ValueError('match must be "any" or "all"')
    if not isinstance(everyone, bool):
        raise TypeError("everyone must be True or False")
    named: list[dict[str, Any]] = [
        {keyword: frozenset(map(to_key, listed(keyword, given)))}
        for keyword, given, to_key in (
            ("users", users, user_key),
            ("groups", groups, group_key),
            ("permissions", permissions, _permission_name),
            ("content_types", content_types, _content_type_key),
        )
        if given is not None
    ]
    if everyone:
        named.append({"everyone": True})
    if len(named) > 1 and match is None:
        raise ValueError('say match="any" or match="all" of these keywords')
    if len(named) < 2 and match == "all":  # noqa: PLR2004 - one keyword has nothing to match with
        raise ValueError('match="all" is about several keywords, not about the items of one')
    if not named:
        return None
    if match != "all":
        return Rule(**{keyword: items for each in named for keyword, items in each.items()})
    rules = tuple(Rule(**each) for each in named)
    return NOBODY if NOBODY in rules else Rule(all=rules)


def listed(keyword: str, given: Any) -> Iterable[Any]:
    """Return the items of what a keyword was given. Raises TypeError if it is no list of them."""
    # The items of a text would be its letters, and of a dict its keys.
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise TypeError(f"{keyword} takes a list")
    return given


def user_key(value: Any) -> str:
    """Return the key of a user, who may be given by it, as text. Raises TypeError, ValueError."""
    return _key(value, get_user_model())


def group_key(value: Any) -> str:
    """Return the key of a group in the same way."""
    return _key(value, apps.get_model("auth.Group"))


def _permission_name(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, apps.get_model("auth.Permission")):
        raise TypeError('permissions takes permissions, or texts like "app.codename"')
    kind = _content_types().get_for_id(value.content_type_id)
    return f"{kind.app_label}.{value.codename}"


def _content_type_key(value: Any) -> str:
    kind: Any = apps.get_model("contenttypes.ContentType")
    is_model = isinstance(value, type) and issubclass(value, Model)
    if is_model or (isinstance(value, Model) and not isinstance(value, kind)):
        # A proxy has permissions of its own, and so the admin logs its own content type.
        value = _content_types().get_for_model(value, for_concrete_model=False)
    key = _key(value, kind)
    if not key.isdecimal():
        raise ValueError("content_types takes models, content types, or their keys")
    return key


def _content_types() -> Any:
    kind: Any = apps.get_model("contenttypes.ContentType")
    return kind.objects


def _key(value: Any, model: Callable[..., Model]) -> str:
    """Return the primary key of an object of this model, or the key itself, as text."""
    name: str = getattr(model, "__name__", "")
    if isinstance(value, Model):
        # Another model's key would mean somebody else.
        if not isinstance(value, model):  # type: ignore[arg-type]
            raise TypeError(f"a {type(value).__name__} is no {name}")
        value = value.pk
        if value is None:
            raise ValueError(f"this {name} was never saved: it has no key")
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, str, uuid.UUID)):
        raise TypeError(f"a {type(value).__name__} is neither a {name} nor the key of one")
    return str(value)
