from __future__ import annotations

import pytest

from notifyd.core.conflicts import CAUTIONS, RULES, apply
from notifyd.core.options import Admin, Auth, Config, Django, Log, Redis, Server

SITE = ("https://www.example.com",)
DATABASE = "postgresql://notifyd:hunter2@/mysite"
BUS = Redis(url="redis://localhost/1")


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(server=Server(listen=("0.0.0.0:80",), origins=SITE)),
        Config(server=Server(listen=("localhost:0", "localhost:0", "[::1]:0", "unix:/run/x"))),
        Config(server=Server(trusted_proxies=("unix", "10.0.0.0/8"))),
        Config(auth=Auth(timeout=5.0, statement_timeout=5.0)),
        Config(log=Log(levels=("auth=debug", "bus=debug"))),
        Config(django=Django(settings="mysite.settings")),
        Config(django=Django(database=DATABASE, secret_key="x", user_table="people"), redis=BUS),
        Config(server=Server(buffer=70_000, bare_buffer=70_000, total_buffer=70_000)),
    ],
)
def test_harmony(config: Config) -> None:
    """Options that suit each other pass without a word."""
    assert apply((*RULES, *CAUTIONS), config, ()) == []


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            Config(server=Server(ping_timeout=25.0), sources={"server.ping_timeout": "file x"}),
            (
                "server.ping_timeout = 25.0 (file x) is not before the next ping; make it less than"
                " ping_interval (25.0)."
            ),
        ),
        (
            Config(server=Server(buffer=100_000, total_buffer=99_999)),
            (
                "server.total_buffer = 99_999 (default) is less than one client may owe; raise it"
                " or lower server.buffer."
            ),
        ),
        (
            Config(server=Server(bare_buffer=300_000, total_buffer=299_999)),
            (
                "server.total_buffer = 299_999 (default) is less than one client may owe; raise it"
                " or lower server.bare_buffer."
            ),
        ),
        (
            Config(auth=Auth(timeout=4.0)),
            (
                "auth.statement_timeout = 5.0 (default) is more than the whole authentication has;"
                " make it at most auth.timeout (4.0)."
            ),
        ),
        (
            Config(
                django=Django(database=DATABASE, secret_key="x", settings="mysite.settings"),
                redis=BUS,
            ),
            (
                'django.settings = "mysite.settings" (default) names the site\'s own settings,'
                " which know their database; unset django.database to use them, or this to use"
                " those that notifyd brings."
            ),
        ),
        (
            Config(django=Django(secret_key="x")),
            (
                'django.database = "" (default) must be set, because django.secret_key is; write'
                " postgresql://USER:PASSWORD@HOST/NAME, or unset django.secret_key."
            ),
        ),
        (
            Config(django=Django(user_pk="uuid")),
            (
                'django.database = "" (default) must be set, because django.user_pk is; write'
                " postgresql://USER:PASSWORD@HOST/NAME, or unset django.user_pk."
            ),
        ),
        (
            Config(django=Django(database=DATABASE), redis=BUS),
            (
                'django.secret_key = "" (default) must be set, because django.database is; write'
                " the site's SECRET_KEY."
            ),
        ),
        (
            Config(django=Django(database=DATABASE, secret_key="x")),
            (
                'redis.url = "" (default) must be set, because django.database is, and the site\'s'
                " cache is unknown then; write redis://HOST:PORT/DB."
            ),
        ),
        (
            Config(server=Server(listen=())),
            (
                "server.listen = [] (default) is empty, so nobody could connect; write an address,"
                ' for example "localhost:8888".'
            ),
        ),
        (
            Config(server=Server(listen=("127.0.0.1:9488",))),
            (
                'server.listen = ["127.0.0.1:9488"] (default) has an address twice, or that of'
                " admin.listen; use each address once."
            ),
        ),
        (
            Config(server=Server(listen=("unix:/run/x", "[::]:80"))),
            (
                'server.origins = [] (default) must be set, because server.listen has "[::]:80",'
                " which other machines reach; add the origin of your pages: origins ="
                ' ["https://www.example.com"].'
            ),
        ),
        (
            Config(log=Log(levels=("auth=debug", "bus=info", "auth=error"))),
            (
                'log.levels = ["auth=debug", "bus=info", "auth=error"] (default) has auth twice;'
                " write each part once."
            ),
        ),
    ],
)
def test_conflicts(config: Config, sentence: str) -> None:
    """Options that contradict each other are a fault that says which one to change."""
    assert apply(RULES, config, ()) == [sentence]


def test_cautions() -> None:
    """What is allowed but dangerous is worth a warning."""
    server = Server(trusted_proxies=("::/0",))
    sentences = apply(CAUTIONS, Config(server=server, admin=Admin(listen="[::]:9488")), ())
    assert [sentence.partition(" = ")[0] for sentence in sentences] == [
        "server.trusted_proxies",
        "admin.listen",
    ]


def test_nothing_about_what_is_unclear() -> None:
    """A rule says nothing while the value of one of its options is not known."""
    config = Config(server=Server(ping_timeout=25.0))
    assert apply(RULES, config, {"server.ping_interval"}) == []
