"""What the documentation says about the app for Django is what its code does."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django.test.utils import override_settings
from django.urls import include, path, reverse
from django.utils.module_loading import import_string
from newsrooms import Newsroom, model
from pages import ROOT, blocks
from servers import RedisServer
from streams import Stream

from notifyd.core.events import MAX_EVENT_BYTES, Rule
from notifyd.django import address, bus, notify, publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["newsroom_fixtures"]

REFERENCE = ROOT / "docs" / "reference" / "django.md"
TEXT = REFERENCE.read_text()
BLOCKS = blocks(REFERENCE)
PUBLISHING = ROOT / "docs" / "how-to" / "publish-events.md"
SCRIPT = (ROOT / "notifyd" / "django" / "static" / "notifyd" / "notifyd.js").read_text()


@pytest.fixture
def stream(newsroom: Newsroom, redis_server: RedisServer) -> Iterator[Stream]:
    """Give the bus of the newsroom, with the app's URLs where the documentation has them."""
    assert isinstance(newsroom, Newsroom)
    kinds = model("contenttypes.ContentType").objects
    kinds.clear_cache()
    given = {"REDIS_URL": redis_server.url, "URL": example("the answer of notifyd:token")["url"]}
    urls = (path("notifyd/", include("notifyd.django.urls")),)
    with override_settings(NOTIFYD=given, ROOT_URLCONF=urls, ALLOWED_HOSTS=["testserver"]):
        yield Stream(redis_server)
    kinds.clear_cache()


def example(title: str) -> dict[str, Any]:
    """Return an object that the reference shows."""
    [block] = [block for block in BLOCKS if block.title == title]
    return dict(json.loads(block.text))


def column(heading: str) -> list[str]:
    """Return the first column of the table with this heading, without the marks of code."""
    table = TEXT[TEXT.index(f"| {heading} |") :].partition("\n\n")[0]
    return [line.split("|")[1].strip().strip("`") for line in table.splitlines()[2:]]


def test_signature() -> None:
    """The reference shows the arguments of notify() with their defaults."""
    [block] = [block for block in BLOCKS if block.language == "python"]
    names: dict[str, Any] = {}
    exec(block.text, names)  # noqa: S102 - it is our own page
    shown, ours = (inspect.signature(each).parameters for each in (names["notify"], notify))
    assert [(p.name, p.kind, p.default) for p in shown.values()] == [
        (p.name, p.kind, p.default) for p in ours.values()
    ]


def test_audiences() -> None:
    """The table of audiences has the keywords that notify() takes for one."""
    others = {"event", "match", "required", "traceparent", "using"}
    keywords = set(inspect.signature(notify).parameters) - others
    assert set(column("Keyword")) == keywords


def test_reasons() -> None:
    """The table of errors has every reason that is counted, and no other."""
    assert column("Reason") == list(publisher.stats.failures)


@pytest.mark.usefixtures("seeded")
def test_numbers() -> None:
    """Sizes and times are those of the code."""
    assert f"at most {MAX_EVENT_BYTES:,} bytes" in TEXT
    assert f"less than {bus.REST:g} s ago" in TEXT
    assert f"may take {address.PATIENCE:g} s each" in TEXT
    port = import_string("notifyd.django.views.PORT")
    assert f"at port {port} of the host" in " ".join(TEXT.split())


def test_event_of_the_admin(stream: Stream) -> None:
    """The event of the admin that is shown has the keys, and the kinds of values, of a real one."""
    entry = model("admin.LogEntry")(
        user=model("auth.User").objects.first(),
        content_type=model("contenttypes.ContentType").objects.get(model="article"),
        object_id=1,
        object_repr="The harbour thaws",
        action_flag=1,
        change_message='[{"added": {}}]',
    )
    entry.save()
    [text] = [json.loads(each.text) for each in stream.entries()]
    shown = example("an event of the admin")
    assert list(text) == list(shown)
    assert {k: type(v) for k, v in text.items()} == {k: type(v) for k, v in shown.items()}
    assert text["message"] == shown["message"]


def test_token_view(stream: Stream) -> None:
    """The view answers with the keys that are shown, and with the codes that are named."""
    assert stream.entries() == []
    assert reverse("notifyd:token") == "/notifyd/token/"
    strict, client = Client(enforce_csrf_checks=True), Client()
    assert client.post("/notifyd/token/").status_code == 401
    for each in (strict, client):
        each.force_login(model("auth.User").objects.get(username="nadia"))
    answer = client.post("/notifyd/token/").json()
    shown = example("the answer of notifyd:token")
    assert (list(answer), answer["url"]) == (list(shown), shown["url"])
    assert strict.post("/notifyd/token/").status_code == 403
    assert client.get("/notifyd/token/").status_code == 405
    assert all(f"{code}" in TEXT for code in (401, 403, 405))


def test_tag_by_hand(stream: Stream) -> None:
    """The element that is shown for other template engines is that of the tag."""
    assert stream.entries() == []
    [shown] = [block.text for block in BLOCKS if block.language == "html"]
    client = Client()
    client.force_login(model("auth.User").objects.get(username="nadia"))
    request = client.get("/notifyd/token/").wsgi_request
    tag = import_string("django.template.engines")["django"].from_string(
        "{% load notifyd %}{% notifyd %}"
    )
    names = re.compile(r" ([a-z-]+)(?=[=>])")
    assert names.findall(tag.render({}, request)) == names.findall(shown.replace("\n", ""))
    assert 'src="/static/notifyd/notifyd.js" data-token-url="/notifyd/token/"' in shown


def test_dom_events() -> None:
    """The DOM events and the states are those of notifyd.js."""
    kinds = re.findall(r'\bdispatch\("(\w+)"', SCRIPT)
    assert set(column("Event")) == {f"notifyd:{kind}" for kind in kinds}
    assert set(column("`state`")) == set(re.findall(r'\bbecome\("(\w+)"', SCRIPT)) | {"connecting"}
    assert "now = { state, code, retry_in: retryIn }" in SCRIPT
    assert "window.notifyd.state" in TEXT
    assert "window.notifyd.close()" in TEXT


def test_publishing(stream: Stream) -> None:
    """The examples of the page about publishing run one after the other, and do what it says."""
    shown = [b for b in blocks(PUBLISHING) if b.language == "python" and not b.title]
    names: dict[str, Any] = {}
    for block in shown:
        exec(block.text, names)  # noqa: S102 - it is our own page
    nadia, editors = str(names["nadia"].pk), str(names["editors"].pk)
    kind = str(model("contenttypes.ContentType").objects.get(model="article").pk)
    changers = frozenset({"articles.change_article"})
    assert [entry.rule for entry in stream.entries()] == [
        Rule(content_types=frozenset({kind})),
        Rule(users=frozenset({nadia})),
        Rule(groups=frozenset({editors})),
        Rule(permissions=frozenset({"articles.view_article"})),
        Rule(content_types=frozenset({kind})),
        Rule(everyone=True),
        Rule(users=frozenset({nadia}), groups=frozenset({editors})),
        Rule(all=(Rule(groups=frozenset({editors})), Rule(permissions=changers))),
        Rule(content_types=frozenset({kind})),
        Rule(everyone=True),
    ]
    assert names["told"] is True


@pytest.mark.parametrize(
    ("how", "told"),
    [(RedisServer.stopped, False), (RedisServer.paused, None)],
    ids=["stopped", "paused"],
)
def test_publishing_to_nobody(stream: Stream, how: Any, told: Any) -> None:
    """Without Redis the example about errors tells that nobody, or perhaps nobody, was told."""
    [shown] = [b for b in blocks(PUBLISHING) if "required=True" in b.text]
    names: dict[str, Any] = {"notify": notify}
    notify({"kind": "first"}, everyone=True)
    with how(stream.server):
        exec(shown.text, names)  # noqa: S102 - it is our own page
    assert names["told"] is told
