from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from notifyd.core import kinds

if TYPE_CHECKING:
    from notifyd.core.kinds import Kind


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (kinds.ADDRESS, "localhost:0"),
        (kinds.BOOLEAN, False),
        (kinds.CONTROL, ""),
        (kinds.CONTROL, "/run/notifyd/control"),
        (kinds.DATABASE_URL, ""),
        (kinds.DATABASE_URL, "postgresql://notifyd@/mysite"),
        (kinds.DIRECTORY, ""),
        (kinds.DIRECTORY, "/srv/my site"),
        (kinds.IDENTIFIER, "members_member"),
        (kinds.IDENTIFIER_OR_EMPTY, ""),
        (kinds.IDENTIFIER_OR_EMPTY, "Member"),
        (kinds.LEVEL, "auth=debug"),
        (kinds.MODULE, ""),
        (kinds.MODULE, "mysite.settings.été"),
        (kinds.ORIGIN, "https://www.example.com"),
        (kinds.ORIGIN, "http://localhost:8000"),
        (kinds.ORIGIN, "http://[::1]:443"),
        (kinds.ORIGIN, "capacitor://localhost"),
        (kinds.PATH, ""),
        (kinds.PATH, "/notifications/"),
        (kinds.PREFIX, "my:site-1"),
        (kinds.PROXY, "unix"),
        (kinds.PROXY, "::1"),
        (kinds.PROXY, "10.0.0.0/8"),
        (kinds.REDIS_URL, ""),
        (kinds.REDIS_URL, "redis://127.0.0.1"),
        (kinds.REDIS_URL, "rediss://user:p%40ss@redis.example.com:6379/1?ssl_cert_reqs=none"),
        (kinds.REDIS_URL, "redis://:password@[::1]:6379/"),
        (kinds.REDIS_URL, "unix:///run/redis.sock?db=1"),
        (kinds.REDIS_URL, "unix://user:password@/run/redis.sock"),
        (kinds.SECRET, "what's that, a # b?"),
        (kinds.WORD, "default"),
        (kinds.SECONDS, 0.001),
        (kinds.SECONDS, 86_400),
        (kinds.numbers(0), 0),
        (kinds.choice("info", "debug"), "debug"),
    ],
)
def test_allowed(kind: Kind, value: object) -> None:
    """What each kind allows passes its check."""
    kind.check(value)


@pytest.mark.parametrize(
    ("origin", "hint"),
    [
        ("*", "one by one"),
        ("https://*.example.com", "one by one"),
        ("null", "write scheme and host"),
        ("www.example.com", "write scheme and host"),
        ("https://www.example.com/", "leave out the slash"),
        ("https://www.example.com/app", "leave out the slash"),
        ("wss://www.example.com", "http:// or https://"),
        ("https://WWW.example.com", "lower case"),
        ("https://www.exämple.com", "xn--"),
        ("https://www.example.com:443", "leave out the port :443"),
        ("http://www.example.com:80", "leave out the port :80"),
        ("https://www.example.com:https", "no valid host"),
        ("https://www.example.com:", "no valid host"),
        ("https://user:password@www.example.com", "no valid host"),
        ("https://", "no valid host"),
        ("1x://www.example.com", "no valid scheme"),
    ],
)
def test_what_is_no_origin(origin: str, hint: str) -> None:
    """An origin that no browser would send as it is written is refused, a wildcard too."""
    with pytest.raises(ValueError, match=hint):
        kinds.ORIGIN.check(origin)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("localhost:6379", "another scheme"),
        ("redis:localhost", "another scheme"),
        ("http://localhost", "write redis://, rediss:// or unix://"),
        ("redis+sentinel://a:1,b:1/mymaster/0", "not supported yet"),
        ("rediss+cluster://a:1", "not supported yet"),
        ("redis+cluster://a:1", "not supported yet"),
        ("redis://", "write redis://HOST:PORT/DB"),
        ("redis://:secret/x@localhost", "percent-encode"),
        ("redis://:12/secret@localhost/0", "percent-encode"),
        ("redis://:12?secret@localhost/0", "percent-encode"),
        ("redis://:a#secret@localhost", "percent-encode"),
        ("redis://:my secret@localhost", "percent-encode"),
        ("redis://localhost/0#secret", "percent-encode"),
        ("redis://secret@localhost", "no password"),
        ("redis://localhost/cache", "database's number"),
        ("unix://run/redis.sock", "names no socket"),
        ("unix://", "names no socket"),
    ],
)
def test_what_is_no_address_of_redis(url: str, hint: str) -> None:
    """An address that can't be used is refused, without a word of the password in it."""
    with pytest.raises(ValueError, match=hint) as caught:
        kinds.REDIS_URL.check(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("kind", "value", "hint"),
    [
        (kinds.CONTROL, "unix:/run/x", "without unix:"),
        (kinds.CONTROL, "run/x", "no absolute path"),
        (kinds.DATABASE_URL, "/srv/mysite/db.sqlite3", "another scheme"),
        (kinds.DIRECTORY, "srv/mysite", "no absolute path"),
        (kinds.IDENTIFIER, "", "no plain name"),
        (kinds.IDENTIFIER, "public.members", "without a schema"),
        (kinds.IDENTIFIER_OR_EMPTY, "my-model", "no plain name"),
        (kinds.MODULE, "mysite/settings.py", "mysite.settings"),
        (kinds.MODULE, "settings.py", "mysite.settings"),
        (kinds.MODULE, "my-site", "mysite.settings"),
        (kinds.PATH, "notifications", "is no path"),
        (kinds.PATH, "/a?b", "is no path"),
        (kinds.PREFIX, "", "letters"),
        (kinds.PREFIX, "{notifyd}", "without braces"),
        (kinds.PROXY, "proxy.example.com", 'or "unix"'),
        (kinds.PROXY, "10.0.0.1/8", "write 10.0.0.0/8"),
        (kinds.LEVEL, "debug", "write part=level"),
        (kinds.WORD, "", "write a name"),
        (kinds.WORD, "two words", "write a name"),
        (kinds.SECONDS, 0, "more than 0, at most 86400"),
        (kinds.SECONDS, 86_401, "more than 0, at most 86400"),
        (kinds.numbers(1), 0, "1 or more"),
        (kinds.choice("info", "debug"), "INFO", 'write "info"'),
        (kinds.choice("info", "debug"), "x", "write one of them"),
    ],
)
def test_refused(kind: Kind, value: object, hint: str) -> None:
    """What a kind does not allow is refused with what to write instead."""
    with pytest.raises(ValueError, match=hint):
        kind.check(value)
