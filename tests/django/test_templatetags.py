from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.staticfiles import finders
from django.template import Context, Engine, RequestContext
from django.test import Client, RequestFactory
from django.test.utils import override_settings
from django.urls import NoReverseMatch, include, path
from django.utils.module_loading import import_string
from newsrooms import Newsroom

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest

pytest_plugins = ["newsroom_fixtures"]

SOURCE = "{% load notifyd %}[{% notifyd %}]"


@pytest.fixture(autouse=True)
def _site(newsroom: Newsroom) -> Iterator[None]:
    assert isinstance(newsroom, Newsroom)
    urls = (path("live/", include("notifyd.django.urls")),)
    with override_settings(ROOT_URLCONF=urls, STATIC_URL="/static/", ALLOWED_HOSTS=["*"]):
        yield


class Script(HTMLParser):
    """The one element that is rendered, and what stands around and in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: dict[str, str | None] = {}
        self.elements = 0
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the element."""
        assert tag == "script"
        self.elements += 1
        self.attributes = dict(attrs)

    def handle_data(self, data: str) -> None:
        """Take the text."""
        self.text += data


@pytest.fixture
def request_() -> HttpRequest:
    """Give a request of somebody who is logged in."""
    request = RequestFactory().get("/")
    request.user = get_user_model().objects.get(username="nadia")
    return request


def render(context: Context) -> str:
    """Render the tag."""
    engine = Engine(libraries={"notifyd": "notifyd.django.templatetags.notifyd"})
    return engine.from_string(SOURCE).render(context)


def test_script(request_: HttpRequest) -> None:
    """There is one script element, without a script in it, that knows where to get a token."""
    script = Script(render(RequestContext(request_)))
    assert (script.elements, script.text) == (1, "[]")
    token = script.attributes.pop("data-csrf-token")
    assert script.attributes == {
        "src": "/static/notifyd/notifyd.js",
        "data-token-url": "/live/token/",
        "defer": None,
    }
    assert token
    assert len(token) == 64


def test_position(request_: Any) -> None:
    """The position of the request is handed on as it is, where there is one."""
    request_.notifyd_position = None
    assert "data-since" not in Script(render(RequestContext(request_))).attributes
    request_.notifyd_position = ('e"1', "1763797912345-0")
    attributes = Script(render(RequestContext(request_))).attributes
    assert attributes["data-epoch"] == 'e"1'
    assert attributes["data-since"] == "1763797912345-0"


def test_csrf_token(request_: HttpRequest) -> None:
    """The token in the page is the one that the token view wants, and its cookie is sent."""
    token = str(Script(render(RequestContext(request_))).attributes["data-csrf-token"])
    client = Client(enforce_csrf_checks=True)
    client.force_login(get_user_model().objects.get(username="nadia"))
    client.cookies["csrftoken"] = request_.META["CSRF_COOKIE"]
    assert request_.META["CSRF_COOKIE_NEEDS_UPDATE"]
    assert client.post("/live/token/", headers={"X-CSRFToken": token}).status_code == 200


def test_static_file() -> None:
    """The script is where the element says."""
    assert finders.find("notifyd/notifyd.js")


def test_request_in_the_context(request_: HttpRequest) -> None:
    """A plain context with the request in it, as the admin has it, does as well."""
    assert "<script" in render(Context({"request": request_}))


@pytest.mark.parametrize("name", ["nobody", "no user", "no request"])
def test_nobody(name: str) -> None:
    """Where nobody is logged in, nothing is rendered."""
    request = RequestFactory().get("/")
    if name == "nobody":
        request.user = import_string("django.contrib.auth.models.AnonymousUser")()
    context = Context() if name == "no request" else RequestContext(request)
    assert render(context) == "[]"
    assert "CSRF_COOKIE" not in request.META


class LazyNonce:
    """A nonce that is made when its text is asked for, as CSP middlewares have it."""

    def __str__(self) -> str:
        """Return the nonce."""
        return 'n0"nce'

    def __bool__(self) -> bool:
        """Tell whether it was made already."""
        return False


@pytest.mark.parametrize("nonce", ['n0"nce', LazyNonce()])
def test_nonce(nonce: Any, request_: Any) -> None:
    """The nonce of the request is passed on, whether a middleware or a context has it."""
    assert 'nonce="n0&quot;nce"' in render(RequestContext(request_, {"csp_nonce": nonce}))
    request_.csp_nonce = nonce
    assert 'nonce="n0&quot;nce"' in render(RequestContext(request_))


def test_urls_missing(request_: HttpRequest) -> None:
    """A site that has left the URLs out hears of it at once."""
    with override_settings(ROOT_URLCONF=()), pytest.raises(NoReverseMatch, match="notifyd"):
        render(RequestContext(request_))
