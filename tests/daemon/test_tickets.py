from __future__ import annotations

import base64
import json
import math
import zlib
from typing import Any

import msgspec
import pytest
from django.conf import settings
from django.core.signing import Signer, TimestampSigner
from django.test.utils import override_settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.login import Login, Refused
from notifyd.core.protocol import parse_hello
from notifyd.daemon.tickets import Ticket, Tickets

pytest_plugins = ["newsroom_fixtures"]
pytestmark = pytest.mark.usefixtures("seeded")

NOW = 1_800_000_000.0
EPOCH = "0123456789abcdef"
# What a body says, in its order: version, user, digest, audience, as_of, epoch, auth_time,
# read_at and the time of issue.
BODY: list[Any] = [1, "7", "d" * 32, None, "5-0", EPOCH, NOW - 20, NOW - 10, NOW]


def tickets(vocabulary: Vocabulary | None = None, lifetime: float = 3600) -> Tickets:
    """Return tickets that are good for 900 seconds."""
    # An empty vocabulary is false.
    words = Vocabulary() if vocabulary is None else vocabulary
    return Tickets(words, ttl=900, lifetime=lifetime)


def login(vocabulary: Vocabulary, **audience: Any) -> Login:
    """Return a login of ten seconds ago."""
    made = Audience.build(vocabulary, **audience)
    return Login("7", made, "d" * 32, NOW - 20, read_at=NOW - 10, as_of="5-0")


def sign(body: object, *, salt: str = "notifyd.ticket", key: str | None = None) -> str:
    """Return a body as a ticket."""
    data = body if isinstance(body, bytes) else msgspec.msgpack.encode(body)
    text = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    return str(Signer(key=key, salt=salt, sep=".").sign(text))


def result(ticket: Any, now: float = NOW) -> str:
    """Return how the opening of a ticket ends."""
    try:
        tickets().open(ticket, now)
    except Refused as refused:
        return str(refused.result)
    return "ok"


def grants(count: int) -> dict[str, Any]:
    """Return what an audience with so many permissions is built from."""
    words = [f"app{n % 7}.{verb}_thing{n}" for n in range(count) for verb in ("view", "change")]
    return {"permissions": words[:count], "content_types": range(count // 2), "groups": [1, 2]}


def test_round_trip() -> None:
    """A ticket says what it was issued for."""
    vocabulary = Vocabulary()
    made = login(vocabulary, permissions=["app.x"], content_types=[12], groups=[3])
    opened = tickets(vocabulary)
    assert opened.open(opened.issue(made, EPOCH, NOW), NOW) == Ticket(made, EPOCH, complete=True)


def test_nothing_known() -> None:
    """A login without a digest, a position and rights, in no history, is one all the same."""
    vocabulary = Vocabulary()
    made = Login("7", Audience.build(vocabulary), "", NOW)
    opened = tickets(vocabulary)
    assert opened.open(opened.issue(made, None, NOW), NOW) == Ticket(made, None, complete=True)


@pytest.mark.parametrize("superuser", [True, False])
def test_another_process(superuser: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A ticket means the same to a daemon that came to know the same words in another order."""
    ours, theirs = Vocabulary(), Vocabulary()
    theirs.intern(["app.y", "content_type:13", "app.x"])
    rights: dict[str, Any] = {"permissions": ["app.x"], "content_types": [12], "groups": [3]}
    rights["superuser"] = superuser
    opened = tickets(theirs).open(tickets(ours).issue(login(ours, **rights), EPOCH, NOW), NOW)
    assert opened.login == login(theirs, **rights)
    assert opened.login.audience.vocabulary is theirs


def test_equal_audiences() -> None:
    """Equal audiences make equal tickets, in whatever order their words became known."""
    ours, theirs = Vocabulary(), Vocabulary()
    one = login(ours, permissions=["app.x", "app.y"], content_types=[12, 9], groups=[3, 11])
    two = login(theirs, permissions=["app.y", "app.x"], content_types=[9, 12], groups=[11, 3])
    assert tickets(ours).issue(one, EPOCH, NOW) == tickets(theirs).issue(two, EPOCH, NOW)


def test_audiences_are_shared() -> None:
    """Tickets with equal audiences give clients one audience in memory."""
    vocabulary = Vocabulary()
    opened = tickets(vocabulary)
    texts = [opened.issue(login(vocabulary, groups=[3]), EPOCH, NOW + n) for n in range(2)]
    first, second = (opened.open(text, NOW + 1).login.audience for text in texts)
    assert first is second


def test_form() -> None:
    """A ticket is ASCII that needs no quoting in a URL."""
    vocabulary = Vocabulary()
    text = tickets(vocabulary).issue(login(vocabulary, **grants(50)), EPOCH, NOW)
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").replace(".", "").isalnum()


@pytest.mark.parametrize("count", [0, 1, 40, 400])
def test_size(count: int) -> None:
    """The audience of somebody with four hundred permissions has room in a ticket."""
    vocabulary = Vocabulary()
    opened = tickets(vocabulary)
    text = opened.issue(login(vocabulary, **grants(count)), EPOCH, NOW)
    assert opened.open(text, NOW).complete


@pytest.mark.parametrize("count", [1_000, 20_000])
def test_too_large(count: int) -> None:
    """Too large an audience stays behind: who it is remains, with the audience of nobody."""
    vocabulary = Vocabulary()
    opened, made = tickets(vocabulary), login(vocabulary, **grants(count))
    ticket = opened.open(opened.issue(made, EPOCH, NOW), NOW)
    assert not ticket.complete
    assert ticket.login.audience == Audience.build(vocabulary)
    assert (ticket.login.user, ticket.login.digest, ticket.epoch) == ("7", "d" * 32, EPOCH)
    assert (ticket.login.auth_time, ticket.login.as_of) == (NOW - 20, "5-0")


@pytest.mark.parametrize("key", ["7", "k" * 255, "\u20ac" * 255])
def test_hello(key: str) -> None:
    """Whatever its user's key and audience are, a ticket fits into a hello of 4,096 bytes."""
    vocabulary = Vocabulary()
    opened = tickets(vocabulary)
    for count in range(0, 800, 25):
        audience = Audience.build(vocabulary, **grants(count))
        text = opened.issue(Login(key, audience, "d" * 32, NOW, NOW, f"{NOW}-0"), EPOCH, NOW)
        hello = json.dumps({"ticket": text, "since": f"{2**63}-{2**63}", "epoch": EPOCH})
        assert len(hello) < 4_096
        assert opened.open(str(parse_hello(hello).ticket), NOW).login.user == key


def test_ttl() -> None:
    """A ticket is good for its time from its issue, whatever the times before."""
    opened, text = tickets(), sign(BODY)
    assert opened.open(text, NOW + 899.9).login.user == "7"
    with pytest.raises(Refused, match=r"^the ticket of user 7 has expired$") as refused:
        opened.open(text, NOW + 900)
    assert refused.value.result == "expired"


def test_lifetime() -> None:
    """No ticket is good beyond the lifetime of the login, however new it is."""
    text = sign(BODY)
    assert tickets(lifetime=30).open(text, NOW + 9.9).login.user == "7"
    with pytest.raises(Refused, match="expired"):
        tickets(lifetime=30).open(text, NOW + 10)
    assert tickets(lifetime=math.inf).open(text, NOW + 10).login.user == "7"


@pytest.mark.parametrize("field", [6, 7, 8])
@pytest.mark.parametrize(
    ("value", "ended"),
    [
        (NOW + 60, "ok"),
        (NOW + 61, "invalid"),
        (0, "expired"),
        (-1, "invalid"),
        (math.nan, "invalid"),
        (math.inf, "invalid"),
        (-math.inf, "invalid"),
        (1 << 63, "invalid"),
        ("1", "invalid"),
        (None, "invalid"),
        (True, "invalid"),
    ],
    ids=repr,
)
def test_times(field: int, value: Any, ended: str) -> None:
    """A time is a number, of the past or of a clock that is a minute ahead."""
    # What was read long ago is for others to judge.
    ended = "ok" if (field, value) == (7, 0) else ended
    assert result(sign([*BODY[:field], value, *BODY[field + 1 :]])) == ended


def test_former_keys() -> None:
    """A ticket is good by a key that the site still accepts, and by no other one."""
    text = sign(BODY)
    assert result(text) == "ok"
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        assert result(text) == "ok"
        assert result(sign(BODY)) == "ok"
    with override_settings(SECRET_KEY="new"):
        assert result(text) == "invalid"


@pytest.mark.parametrize(
    "ticket",
    [
        None,
        7,
        b"AAAA",
        [],
        "",
        ".",
        "A.A",
        "AAAA",
        "AAAA." + "A" * 43,
        "." + "A" * 43,
        "\ud800." + "A" * 43,
        "t\u00f6ken." + "A" * 43,
        "AAAA." + "\uff21" * 43,
        "A" * 100_000,
        "." * 100_000,
    ],
    ids=lambda ticket: repr(ticket)[:12],
)
def test_nonsense(ticket: Any) -> None:
    """What is not of a ticket's form is refused."""
    assert result(ticket) == "invalid"


def test_truncated() -> None:
    """A ticket that lost anything at either end, or got something, is refused."""
    text = sign(BODY)
    assert {result(text[:n]) for n in range(len(text))} == {"invalid"}
    assert {result(text[n:]) for n in range(1, len(text))} == {"invalid"}
    assert {result(each) for each in (text + "A", "A" + text, text + "\n", f" {text}")} == {
        "invalid"
    }


def test_flipped() -> None:
    """A ticket that differs from a good one in a bit is refused."""
    text = sign(BODY)
    for at, letter in enumerate(text):
        for bit in range(7):
            other = chr(ord(letter) ^ 1 << bit)
            assert result(text[:at] + other + text[at + 1 :]) == "invalid"


def test_signed_otherwise() -> None:
    """What the site has signed for another purpose is no ticket, nor is what others have signed."""
    assert result(sign(BODY, salt="django.core.signing")) == "invalid"
    assert result(sign(BODY, key="another")) == "invalid"
    text = sign(BODY).partition(".")[0]
    assert result(text) == "invalid"
    assert result(TimestampSigner(salt="notifyd.ticket", sep=".").sign(text)) == "invalid"


# Two kilobytes that would become two million.
BOMB = zlib.compress(msgspec.msgpack.encode([["x" * 2_000_000], [], [], False]), 9)


@pytest.mark.parametrize(
    "body",
    [
        [2, *BODY[1:]],
        [*BODY, "more"],
        BODY[:-1],
        [],
        {"version": 1},
        "text",
        None,
        b"",
        b"\xc1",
        json.dumps(BODY).encode(),
        b"\x91" * 2_000,
        [1, *[["deep"]] * 8],
        [1, 7, *BODY[2:]],
        [1, "7", None, *BODY[3:]],
        [*BODY[:3], "text", *BODY[4:]],
        [*BODY[:4], 5, *BODY[5:]],
        [*BODY[:5], b"epoch", *BODY[6:]],
        msgspec.msgpack.encode(BODY).replace(b"\xa17", b"\xa1\xff"),
    ],
    ids=lambda body: repr(body)[:24],
)
def test_other_bodies(body: Any) -> None:
    """What has our signature and is not what we sign is refused: another version's, for one."""
    assert result(sign(body)) == "invalid"


@pytest.mark.parametrize(
    "audience",
    [
        b"",
        b"not zlib",
        zlib.compress(b""),
        zlib.compress(b"\xc1"),
        zlib.compress(msgspec.msgpack.encode([["app.x"], [], [], 1])),
        zlib.compress(msgspec.msgpack.encode([["app.x"], [], ["1"]])),
        zlib.compress(msgspec.msgpack.encode([[7], [], ["1"], False])),
        zlib.compress(msgspec.msgpack.encode([["app.x"], [], ["1"], False]))[:-8],
        zlib.compress(b"\x91" * (1 << 17)),
        BOMB,
    ],
    ids=lambda audience: repr(audience)[:24],
)
def test_other_audiences(audience: bytes) -> None:
    """What can't be unpacked, or would fill the memory, is refused."""
    assert result(sign([*BODY[:3], audience, *BODY[4:]])) == "invalid"


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_any_text(text: str) -> None:
    """No text makes anything but a refusal."""
    assert result(text) == "invalid"


@given(st.binary())
def test_any_body(data: bytes) -> None:
    """Nor do any bytes, even with our signature."""
    assert result(sign(data)) == "invalid"


@given(st.binary())
def test_any_audience(data: bytes) -> None:
    """Nor does any audience."""
    for audience in (data, zlib.compress(data)):
        assert result(sign([*BODY[:3], audience, *BODY[4:]])) == "invalid"


def test_secrecy() -> None:
    """No part of a ticket but its user's key is in what is said of it."""
    for ticket in (sign(BODY), sign(BODY)[:-1], sign([2, *BODY[1:]])):
        with pytest.raises(Refused) as refused:
            tickets().open(ticket, NOW + 10_000)
        error = refused.value
        assert str(error) in {"the ticket of user 7 has expired", "not a ticket of this site"}
        assert (error.__cause__, error.__suppress_context__) == (None, error.result == "invalid")
