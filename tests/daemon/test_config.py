from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from notifyd.daemon.config import Config, ConfigError, load, render

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "Xyzzy-Plugh"


def write(path: Path, text: str) -> str:
    """Write a file and return its name."""
    path.write_text(text)
    return str(path)


def faults(path: str | None = None, **environ: str) -> list[str]:
    """Return what is wrong with a configuration; the site's own file plays no part."""
    with pytest.raises(ConfigError) as caught:
        load(path, environ, default_path="/nowhere")
    assert PASSWORD not in "".join(map(str, (caught.value, caught.value.__context__)))
    return caught.value.faults


def test_defaults() -> None:
    """Without a file and an environment every option has its default."""
    assert load(None, {}, default_path="/nowhere") == (Config(), [])


def test_default_file(tmp_path: Path) -> None:
    """Without --config the file in /etc is read, if there is one."""
    path = write(tmp_path / "x", "[log]\nlevel = 'debug'")
    config, _ = load(None, {}, default_path=path)
    assert (config.log.level, config.sources) == ("debug", {"log.level": f"file {path}"})


def test_missing_file() -> None:
    """A file that was asked for must exist."""
    assert faults("/nowhere/x") == [
        "The file /nowhere/x does not exist; create it or correct --config."
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[redis]\nurl = 'Xyzzy-Plugh", "is not TOML: "),
        (b"[redis]\nmaxlen = " + 5000 * b"1", "is not TOML: "),
        (b"[redis]\nurl = '\xff'", "is not UTF-8; save it in that encoding."),
        (None, "cannot be read: Is a directory."),
    ],
)
def test_unreadable_files(content: bytes | None, words: str, tmp_path: Path) -> None:
    """A file that can't be read is a fault, and hides none in the environment."""
    path = tmp_path / "x"
    path.mkdir() if content is None else path.write_bytes(content)
    found = faults(str(path), NOTIFYD_AUTH_THREADS="0", NOTIFYD_SERVER_LISTEN="0.0.0.0:0")
    assert found[0].startswith(f"The file {path} {words}")
    assert [fault.split()[0] for fault in found[1:]] == ["auth.threads"]


def test_all_of_it(tmp_path: Path) -> None:
    """The file has a table for each section, and whole numbers are good for times."""
    text = """
        [server]
        listen = ["[::]:443", "unix:/run/notifyd/public"]
        origins = ["https://www.example.com"]
        drain = 10
        [auth]
        unscoped = false
    """
    config, warnings = load(write(tmp_path / "x", text), {})
    assert warnings == []
    assert config.server.listen == ("[::]:443", "unix:/run/notifyd/public")
    assert config.server.origins == ("https://www.example.com",)
    assert (config.server.drain, config.auth.unscoped) == (10.0, False)


def test_environment_beats_the_file(tmp_path: Path) -> None:
    """Every option can be set by a variable, which wins over the file; lists have commas."""
    path = write(tmp_path / "x", "[server]\nlisten = ['localhost:1']\n[log]\nlevel = 'debug'")
    environ = {
        "NOTIFYD_SERVER_LISTEN": "localhost:2, unix:/run/x",
        "NOTIFYD_AUTH_UNSCOPED": "no",
        "NOTIFYD_SERVER_PING_INTERVAL": "30",
        "NOTIFYD_REDIS_MAXLEN": "10",
    }
    config, _ = load(path, environ)
    assert config.server.listen == ("localhost:2", "unix:/run/x")
    assert (config.auth.unscoped, config.server.ping_interval) == (False, 30.0)
    assert (config.redis.maxlen, config.log.level) == (10, "debug")
    assert config.sources["server.listen"] == "environment NOTIFYD_SERVER_LISTEN"


def test_secrets_come_from_files(tmp_path: Path) -> None:
    """A secret may be in a file, which the configuration file or a variable names."""
    secret = write(tmp_path / "secret", "redis://one\n")
    path = write(tmp_path / "x", f"[redis]\nurl_file = '{secret}'")
    config, _ = load(path, {})
    assert (config.redis.url, config.sources["redis.url"]) == (
        "redis://one",
        f"file {path}, redis.url_file",
    )
    config, _ = load(None, {"NOTIFYD_REDIS_URL_FILE": secret}, default_path="/nowhere")
    assert (config.redis.url, config.sources["redis.url"]) == (
        "redis://one",
        "environment NOTIFYD_REDIS_URL_FILE",
    )


def test_credentials(tmp_path: Path) -> None:
    """A secret may be a credential of systemd: it beats the file, the environment beats it."""
    write(tmp_path / "redis.url", "redis://credential\n")
    write(tmp_path / "server.listen", "no secret, so not looked at")
    path = write(tmp_path / "x", "[redis]\nurl = 'redis://file'")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    config, _ = load(path, environ)
    assert (config.redis.url, config.sources) == (
        "redis://credential",
        {"redis.url": "credential redis.url"},
    )
    config, _ = load(path, environ | {"NOTIFYD_REDIS_URL": "redis://environment"})
    assert config.redis.url == "redis://environment"


def test_no_credential(tmp_path: Path) -> None:
    """A directory of credentials without ours changes nothing."""
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load(None, environ, default_path="/nowhere") == (Config(), [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "which cannot be read: No such file or directory."),
        (b"\xff" + PASSWORD.encode(), "which is not UTF-8."),
        (b" \n", "which is empty; put the value there."),
        (b"http://:Xyzzy-Plugh@x", "has another scheme; write redis://, rediss:// or unix://."),
    ],
)
def test_bad_secret_files(content: bytes | None, words: str, tmp_path: Path) -> None:
    """A secret's file that is of no use is a fault that shows nothing of the secret."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    [fault] = faults(NOTIFYD_REDIS_URL_FILE=str(path))
    assert fault.startswith("redis.url = *** (environment NOTIFYD_REDIS_URL_FILE) ")
    assert fault.endswith(words)


@pytest.mark.parametrize("name", ["5", "'secret'", "''"])
def test_names_of_secret_files(name: str, tmp_path: Path) -> None:
    """The name of a secret's file is a whole path."""
    [fault] = faults(write(tmp_path / "x", f"[redis]\nurl_file = {name}"))
    assert fault.endswith("names no file; write its whole path, beginning with /.")


def test_secret_twice(tmp_path: Path) -> None:
    """A secret and its file at one level contradict each other."""
    secret = write(tmp_path / "secret", "redis://one")
    path = write(tmp_path / "x", f"[redis]\nurl = 'redis://:{PASSWORD}@x'\nurl_file = '{secret}'")
    assert faults(path) == [
        f"redis.url (file {path}) is set directly and by a file; keep one.",
    ]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[server]\norgins = []", "server.orgins ({}) is no option and ignored; the nearest"),
        ("[server]\norgins = []", "server.origins."),
        ("[server]\nurl = 'Xyzzy-Plugh'", "redis.url."),
        ("[sever]\nlisten = []", "server.listen."),
        ("[admim]\nlisten = []", "admin.listen."),
        ("origins = []", "origins ({}) is no option and ignored; the nearest one is server"),
        ("[zzz]\nqqq = 1", "zzz.qqq ({}) is no option and ignored."),
    ],
)
def test_unknown_keys(text: str, warning: str, tmp_path: Path) -> None:
    """A key that is no option is a warning with the nearest that is one."""
    path = write(tmp_path / "x", text)
    config, warnings = load(path, {})
    assert config == Config()
    assert len(warnings) == 1
    assert warning.format(f"file {path}") in warnings[0]
    assert PASSWORD not in warnings[0]


def test_unknown_variables() -> None:
    """A variable that begins like ours and is no option is a warning, too."""
    environ = {"NOTIFYD_SERVER_ORIGIN": PASSWORD, "NOTIFYD_AUTH_THREADS_FILE": "x", "OTHER": "x"}
    assert load(None, environ, default_path="/nowhere")[1] == [
        (
            "NOTIFYD_SERVER_ORIGIN (environment) is no option and ignored; the nearest one is"
            " NOTIFYD_SERVER_ORIGINS."
        ),
        (
            "NOTIFYD_AUTH_THREADS_FILE (environment) is no option and ignored; the nearest one is"
            " NOTIFYD_AUTH_THREADS."
        ),
    ]


@pytest.mark.parametrize("text", ["server = 5", "[[server]]\norigins = ['https://a.example']"])
def test_sections_are_tables(text: str, tmp_path: Path) -> None:
    """A section that is no table is a fault: ignoring it would lose its options."""
    assert faults(write(tmp_path / "x", text)) == [
        "server is no table; begin it with one line [server]."
    ]


def test_the_rest(tmp_path: Path) -> None:
    """What has no fault is known all the same: where the daemon is to be asked, say."""
    text = """
        [server]
        drain = -1
        [control]
        socket = "/run/file"
    """
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path / "x", text), {})
    assert caught.value.rest.control.socket == "/run/file"
    assert caught.value.rest.server.drain == Config().server.drain
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path / "x", "no TOML"), {"NOTIFYD_CONTROL_SOCKET": "/run/environment"})
    assert caught.value.rest.control.socket == "/run/environment"


def test_all_faults_at_once(tmp_path: Path) -> None:
    """All faults are told together, each with the option, its value and what to do."""
    text = """
        [server]
        listen = [":1", "b", "localhost:0"]
        drain = true
        ping_interval = 20
        [log]
        level = "Info"
    """
    path = write(tmp_path / "x", text)
    assert faults(path, NOTIFYD_AUTH_THREADS="eight") == [
        (
            f'server.listen = [":1", "b", "localhost:0"] (file {path}) holds ":1", which names no'
            ' host; write "0.0.0.0:PORT" or "[::]:PORT" to listen everywhere. It also holds "b",'
            ' which has no port; write "host:port", for example "localhost:8888".'
        ),
        f"server.drain = true (file {path}) is no number; write one, without quotes.",
        (
            f'log.level = "Info" (file {path}) is none of debug, info, warning, error, critical;'
            ' write "info".'
        ),
        (
            'auth.threads = "eight" (environment NOTIFYD_AUTH_THREADS) is no whole number;'
            " write one, without quotes."
        ),
        (
            "server.ping_timeout = 20.0 (default) is not before the next ping; make it less than"
            " ping_interval (20.0)."
        ),
    ]


def test_tables_in_options(tmp_path: Path) -> None:
    """A table in the place of a value is a fault that names it in words."""
    [fault] = faults(write(tmp_path / "x", "[log.level]\nx = 1"))
    assert fault.startswith("log.level = a dict (file ")


def test_passwords_are_never_shown(tmp_path: Path) -> None:
    """No fault shows a secret, whatever is wrong with it, nor a password in a wrong place."""
    url = f"redis://:{PASSWORD}@localhost"
    assert faults(NOTIFYD_REDIS_URL=url.replace("redis", "redis+sentinel"))
    assert faults(NOTIFYD_SERVER_LISTEN=url)
    assert faults(write(tmp_path / "x", f"[redis]\nurl = ['{url}']"))


def test_cautions() -> None:
    """What is dangerous but allowed is a warning."""
    [warning] = load(None, {"NOTIFYD_ADMIN_LISTEN": "[::]:0"}, default_path="/nowhere")[1]
    assert warning == (
        'admin.listen = "[::]:0" (environment NOTIFYD_ADMIN_LISTEN) shows metrics to whoever'
        " reaches it; keep it on loopback or behind a firewall."
    )


def test_rendering(tmp_path: Path) -> None:
    """What is rendered says where each value came from, and is read back as it was."""
    environ = {"NOTIFYD_SERVER_LISTEN": "unix:/run/ä", "NOTIFYD_REDIS_URL": "redis://x/1"}
    config, _ = load(None, environ, default_path="/nowhere")
    text = render(config)
    assert '[server]\nlisten = ["unix:/run/ä"]  # environment NOTIFYD_SERVER_LISTEN\n' in text
    assert 'format = "auto"  # default\n' in text
    assert load(write(tmp_path / "x", text), {}) == (config, [])


def test_rendering_hides_keys() -> None:
    """A secret that is no address is masked whole, and one that is unset is seen to be."""
    environ = {
        "NOTIFYD_DJANGO_DATABASE": f"postgresql://me:{PASSWORD}@/mysite",
        "NOTIFYD_DJANGO_SECRET_KEY": PASSWORD,
        "NOTIFYD_REDIS_URL": "redis://x/1",
    }
    text = render(load(None, environ, default_path="/nowhere")[0])
    assert 'database = "postgresql://me:***@/mysite"  #' in text
    assert 'secret_key = "***"  #' in text
    assert "secret_key_fallbacks = []  # default" in text
    assert PASSWORD not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://user:{PASSWORD}@x/1", "redis://user:***@x/1"),
        (f"rediss://:{PASSWORD}%40@x", "rediss://:***@x"),
        (f"redis://x?password={PASSWORD}&db=1", "redis://x?password=***&db=1"),
        (f"unix://:{PASSWORD}@/run/x", "unix://:***@/run/x"),
    ],
)
def test_rendering_hides_passwords(url: str, shown: str) -> None:
    """Passwords are masked where the configuration is shown."""
    config, _ = load(None, {"NOTIFYD_REDIS_URL": url}, default_path="/nowhere")
    assert f'url = "{shown}"  #' in render(config)
    assert PASSWORD not in render(config) + repr(config)
