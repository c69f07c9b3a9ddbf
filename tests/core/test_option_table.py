from __future__ import annotations

import pytest

from notifyd.core.literals import read
from notifyd.core.option_table import OPTIONS, SECTIONS, Option
from notifyd.core.options import Config


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_options(option: Option) -> None:
    """Every option explains itself, and its default is of its type and allowed."""
    items = list(option.default) if isinstance(option.default, tuple) else option.default
    assert option.meaning.endswith(".")
    assert read(option.type, items) == option.of(Config()) == option.default
    for item in items if isinstance(items, list) else [items]:
        option.kind.check(item)


def test_names() -> None:
    """An option is called section.name, and its environment variable alike."""
    option = OPTIONS["server.hello_timeout"]
    assert (option.key, option.variable) == ("server.hello_timeout", "NOTIFYD_SERVER_HELLO_TIMEOUT")
    assert list(SECTIONS) == ["server", "admin", "control", "redis", "django", "auth", "log"]
