from __future__ import annotations

import time

import pytest

from notifyd.core.redaction import redact


@pytest.mark.parametrize(
    "name",
    ["token", "ticket", "password", "Set-Cookie", "HTTP_AUTHORIZATION", "secret_key", "passwd"],
)
def test_field_named_like_a_secret_is_hidden(name: str) -> None:
    """A field that is called like a secret is hidden whole, whatever its type."""
    assert redact("abc", name) == redact(["abc"], name) == redact(123, name) == "***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:pw@localhost:6379/1", "redis://:***@localhost:6379/1"),
        ("redis://me:p/w:x@y@localhost", "redis://me:***@localhost"),
        (
            "Error 111 connecting to rediss://a:b@c:1.",
            "Error 111 connecting to rediss://a:***@c:1.",
        ),
        ("redis+sentinel://:pw@a:1,b:2/main", "redis+sentinel://:***@a:1,b:2/main"),
        ("wss://x/?sesame_token=abc&since=1", "wss://x/?sesame_token=***&since=1"),
        ("redis://localhost?password=pw", "redis://localhost?password=***"),
        ("Secret=pw; user=me", "Secret=***; user=me"),
    ],
)
def test_secrets_in_a_text_are_hidden(text: str, shown: str) -> None:
    """The password of a URL and the value of token=... are hidden within any text."""
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    ["redis://localhost:6379/1", "https://a.example:8443", "redis://me@host", "a@b: c", ""],
)
def test_harmless_text_is_kept(text: str) -> None:
    """A text without a secret is kept as it is, its white space included."""
    assert redact(f" {text}\n\t") == f" {text}\n\t"


def test_secrets_within_are_hidden() -> None:
    """Objects and lists are searched to the bottom; keys become text."""
    value = {"a": [{"token": "abc", 1: ("x", "redis://:pw@h")}]}
    assert redact(value) == {"a": [{"token": "***", "1": ["x", "redis://:***@h"]}]}


@pytest.mark.parametrize("value", [None, True, 0, 1.5])
def test_what_json_has_is_kept(value: object) -> None:
    """Numbers, booleans and null stay what they are."""
    assert redact(value) is value


def test_exception_is_one_line() -> None:
    """An exception is its class and its message in one line, without secrets."""
    assert redact(ValueError("bad\n  url redis://:pw@h")) == "ValueError: bad url redis://:***@h"


def test_exception_without_message_is_its_class() -> None:
    """An exception without a message is its class alone."""
    assert redact(TimeoutError()) == "TimeoutError"


def test_unknown_object_is_its_text() -> None:
    """Whatever JSON has no form for becomes text, and is searched like one."""
    assert redact(b"token=abc") == "b'token=***"


def test_no_text_is_slow() -> None:
    """A text made to be slow takes no longer than any other of its size."""
    texts = ("token" * 20_000, "a://:" * 20_000, "@" + "a://:" * 20_000, "://@:" * 20_000)
    start = time.perf_counter()
    for text in texts:
        redact(text)
    assert time.perf_counter() - start < 2
