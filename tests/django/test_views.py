from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.test.utils import modify_settings, override_settings
from django.urls import include, path
from django.utils.module_loading import import_string
from newsrooms import Newsroom, login

from notifyd.daemon import auth_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpResponse

    from notifyd.daemon.auth import Authenticator

pytest_plugins = ["newsroom_fixtures"]

PATH = "/live/token/"


@pytest.fixture(autouse=True)
def _site(newsroom: Newsroom) -> Iterator[None]:
    assert isinstance(newsroom, Newsroom)
    urls = (path("live/", include("notifyd.django.urls")),)
    with override_settings(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], NOTIFYD={}, DEBUG=True):
        yield


def browser(username: str | None = "nadia", **options: Any) -> Client:
    """Return the browser of somebody, who is logged in if there is a name."""
    made = Client(**options)
    if username:
        made.force_login(get_user_model().objects.get(username=username))
    return made


def ask(username: str | None = "nadia", **headers: Any) -> Any:
    """Return the answer to a request of somebody's browser."""
    return browser(username).post(PATH, **headers)


def test_answer() -> None:
    """Who is logged in gets a token and the daemon's address, which no cache may keep."""
    response = ask()
    assert response.status_code == 200
    assert response.json().keys() == {"token", "url"}
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"


def test_token_is_fresh() -> None:
    """Every request gets a token of its own moment, for its own user."""
    get_user = import_string("sesame.utils.get_user")
    for name in ("nadia", "omar"):
        token = ask(name).json()["token"]
        assert get_user(token, scope="notifyd").username == name


def test_token_is_scoped() -> None:
    """The token is good for nothing but notifyd: nobody can log in to the site with it."""
    assert import_string("sesame.utils.get_user")(ask().json()["token"]) is None
    assert import_string("notifyd.django.views.SCOPE") == auth_project.SCOPE


async def test_daemon_accepts(newsroom: Newsroom, make: Callable[..., Authenticator]) -> None:
    """The daemon lets in who comes with the token."""
    response = await newsroom.run(ask)
    nadia = await newsroom.user("nadia")
    assert (await login(make(), response.json()["token"])).user == str(nadia.pk)


def test_anonymous() -> None:
    """Who is not logged in is told so as JSON, and never sent elsewhere."""
    response = ask(None)
    assert response.status_code == 401
    assert response.json() == {"error": "not logged in"}
    assert response["Cache-Control"] == "no-store"


def test_login_required_middleware() -> None:
    """That holds where the site sends all others to log in, too."""
    required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    with modify_settings(MIDDLEWARE={"append": required}):
        assert ask(None).status_code == 401
        assert ask().status_code == 200


def test_inactive() -> None:
    """An account that was deactivated is logged in no more."""
    client = browser()
    get_user_model().objects.filter(username="nadia").update(is_active=False)
    assert client.post(PATH).status_code == 401


@pytest.mark.parametrize("method", ["get", "head", "put", "delete", "options"])
def test_methods(method: str) -> None:
    """Nothing but POST is answered: a token is made, and not merely shown."""
    response: HttpResponse = getattr(browser(), method)(PATH)
    assert (response.status_code, response["Allow"]) == (405, "POST")


def test_csrf() -> None:
    """Another site can't have a token made; who has the token against that, can."""
    client = browser(enforce_csrf_checks=True)
    assert client.post(PATH).status_code == 403
    secret = "s" * 32
    client.cookies["csrftoken"] = secret
    assert client.post(PATH, headers={"X-CSRFToken": secret}).status_code == 200
    assert client.post(PATH, headers={"X-CSRFToken": "t" * 32}).status_code == 403


def test_csrf_without_middleware() -> None:
    """That holds where the site doesn't look at it by itself."""
    csrf = "django.middleware.csrf.CsrfViewMiddleware"
    with modify_settings(MIDDLEWARE={"remove": csrf}):
        assert browser(enforce_csrf_checks=True).post(PATH).status_code == 403


def test_csrf_of_nobody() -> None:
    """Who was logged out meanwhile is told just that."""
    assert browser(None, enforce_csrf_checks=True).post(PATH).status_code == 401


def test_url() -> None:
    """The address is the one in the settings."""
    with override_settings(NOTIFYD={"URL": "wss://www.example.com/ws/"}):
        assert ask().json()["url"] == "wss://www.example.com/ws/"


@pytest.mark.parametrize(
    ("host", "secure", "url"),
    [
        ("localhost:8000", False, "ws://localhost:8888/"),
        ("127.0.0.1:8000", False, "ws://127.0.0.1:8888/"),
        ("[::1]:8000", False, "ws://[::1]:8888/"),
        ("www.example.com", True, "wss://www.example.com:8888/"),
    ],
)
def test_url_by_default(host: str, secure: bool, url: str) -> None:  # noqa: FBT001 - a parameter of the test
    """Without one it is the daemon's default port at the name by which the site was asked."""
    response = browser().post(PATH, headers={"host": host}, secure=secure)
    assert response.json()["url"] == url
