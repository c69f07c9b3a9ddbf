from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.template import engines
from django.test import Client, RequestFactory
from django.test.utils import override_settings
from django.urls import include, path

from notifyd.django import notify
from notifyd.django.middleware import PositionMiddleware, may_be_page

if TYPE_CHECKING:
    from django.http import HttpRequest
    from streams import Stream

pytest_plugins = ["newsroom_fixtures"]
pytestmark = pytest.mark.usefixtures("newsroom")

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
POSITION = "notifyd.django.middleware.PositionMiddleware"


@pytest.fixture
def epoch(stream: Stream) -> str:
    """Begin a history as the daemon does."""
    stream.client.set("{notifyd}:epoch", "e1")
    stream.client.xadd("{notifyd}:events", {"control": '{"start": true}'}, id="1-5")
    return "e1"


def position(**headers: str) -> Any:
    """Return the position that a request is given."""
    return noted(RequestFactory().get("/", headers={"accept": HTML, **headers}))


def noted(request: HttpRequest) -> Any:
    """Return the position that a request has behind the middleware, "none" if it has none."""
    seen: list[Any] = []

    def respond(request: HttpRequest) -> HttpResponse:
        seen.append(getattr(request, "notifyd_position", "none"))
        return HttpResponse()

    PositionMiddleware(respond)(request)
    return seen.pop()


def test_position(stream: Stream, epoch: str) -> None:
    """A request has the epoch and the newest id at its beginning."""
    assert position() == (epoch, "1-5")
    stream.client.xadd("{notifyd}:events", {"event": "{}"}, id="2-0")
    assert position() == (epoch, "2-0")
    # An entry that an operator takes out has been there.
    stream.client.xdel("{notifyd}:events", "2-0")
    assert position() == (epoch, "2-0")


def test_prefix(stream: Stream) -> None:
    """It is the position of the bus that the settings name."""
    stream.client.set("{news}:epoch", "e2")
    stream.client.xadd("{news}:events", {"event": "{}"}, id="7-7")
    with override_settings(NOTIFYD={"PREFIX": "news"}):
        assert position() == ("e2", "7-7")


def test_no_history(stream: Stream) -> None:
    """Where there is no history yet, there is no position in it."""
    assert position() is None
    stream.client.set("{notifyd}:epoch", "e1")
    assert position() is None
    stream.client.delete("{notifyd}:epoch")
    notify({"n": 1}, everyone=True)
    assert position() is None


@pytest.mark.parametrize(
    ("method", "headers", "is_page"),
    [
        ("GET", {"accept": HTML}, True),
        ("GET", {"accept": "text/html"}, True),
        ("GET", {"accept": HTML, "sec-fetch-dest": "document"}, True),
        ("GET", {"accept": HTML, "sec-fetch-dest": "empty"}, True),
        ("GET", {"accept": HTML, "sec-fetch-dest": "image"}, False),
        ("GET", {"accept": "image/avif,image/webp,*/*"}, False),
        ("GET", {"accept": "application/json"}, False),
        ("GET", {}, False),
        ("HEAD", {"accept": HTML}, False),
        ("POST", {"accept": HTML}, False),
    ],
)
def test_pages(
    method: str,
    headers: dict[str, str],
    is_page: bool,  # noqa: FBT001 - a parameter of the test
    stream: Stream,
    epoch: str,
) -> None:
    """Redis is asked where the answer may be a page, and nowhere else."""
    request = RequestFactory().generic(method, "/", headers=headers)
    asked = stream.client.info("stats")["total_commands_processed"]
    assert may_be_page(request) is is_page
    assert noted(request) == ((epoch, "1-5") if is_page else "none")
    if not is_page:
        # That question was one, too.
        assert stream.client.info("stats")["total_commands_processed"] == asked + 1


def test_page(stream: Stream, epoch: str) -> None:
    """What happens while a page is made is behind the position that is in the page."""
    assert stream.server.pid
    template = engines["django"].from_string("{% load notifyd %}{% notifyd %}")

    def view(request: HttpRequest) -> HttpResponse:
        notify({"n": 1}, everyone=True)
        return HttpResponse(template.render({}, request))

    urls = (path("notifyd/", include("notifyd.django.urls")), path("", view))
    with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=[POSITION, *settings.MIDDLEWARE]):
        client = Client()
        client.force_login(get_user_model().objects.get(username="nadia"))
        page = client.get("/", headers={"accept": HTML}).content.decode()
        assert f'data-epoch="{epoch}" data-since="1-5"' in page
        assert "data-since" not in client.get("/").content.decode()


async def test_async(stream: Stream, epoch: str) -> None:
    """An async site gets the same."""
    seen = []

    async def respond(request: HttpRequest) -> HttpResponse:
        seen.append(getattr(request, "notifyd_position", "none"))
        return HttpResponse()

    middleware = PositionMiddleware(respond)
    for headers in ({"accept": HTML}, {"accept": "*/*"}):
        response = await middleware(RequestFactory().get("/", headers=headers))
        assert response.status_code == 200
    assert seen == [(epoch, "1-5"), "none"]
    assert stream.server.pid


def test_redis_away(stream: Stream, epoch: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without Redis pages are made, without a position, and without waiting one after another."""
    middleware = PositionMiddleware(lambda _request: HttpResponse())
    request: Any = RequestFactory().get("/", headers={"accept": HTML})
    with stream.server.paused():
        begun = time.monotonic()
        for _ in range(5):
            assert middleware(request).status_code == 200
            assert request.notifyd_position is None
        assert time.monotonic() - begun < 2
    assert epoch
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith("pages are made without a position: ")


def test_refused(stream: Stream, epoch: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong with Redis is logged once, and again after it was right."""
    middleware = PositionMiddleware(lambda _request: HttpResponse())
    request: Any = RequestFactory().get("/", headers={"accept": HTML})

    def ask() -> Any:
        middleware(request)
        return request.notifyd_position

    stream.client.rename("{notifyd}:events", "aside")
    stream.client.set("{notifyd}:events", "mine")
    assert [ask(), ask()] == [None, None]
    assert len(caplog.records) == 1
    assert "WRONGTYPE" in caplog.text
    stream.client.rename("aside", "{notifyd}:events")
    assert ask() == (epoch, "1-5")
    stream.client.set("{notifyd}:events", "mine")
    assert ask() is None
    assert len(caplog.records) == 2


@pytest.mark.parametrize("given", [{"ENABLED": False}, {"HISTORY": "long"}, {"CACHE_ALIAS": "no"}])
def test_no_way(given: dict[str, Any], epoch: str) -> None:
    """Where nothing is published, or the settings are wrong, pages are made all the same."""
    assert epoch
    with override_settings(NOTIFYD=given):
        assert position() is None
