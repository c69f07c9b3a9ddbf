from __future__ import annotations

import pytest

from notifyd.core.remedies import closed, denied, grant, sqlite


@pytest.mark.parametrize("home", ["/home", "/root", "/run/user"])
def test_hidden_homes(home: str) -> None:
    """For what the unit hides, the directive and the drop-in are named."""
    words = closed(home, "notifyd")
    assert words.startswith(f"{home} is hidden by notifyd's unit: put [Service] and Protec")
    assert "ProtectHome=read-only" in words
    assert "/etc/systemd/system/notifyd.service.d/site-in-home.conf" in words


def test_closed_directories() -> None:
    """For what is closed by its mode, the command that opens it is named."""
    assert closed("/home/ada", "notifyd") == (
        "/home/ada is closed to the user notifyd: setfacl -m u:notifyd:rx /home/ada"
    )


def test_sqlite() -> None:
    """For a SQLite file the folder to open is named, in the unit and for the user."""
    words = sqlite("/srv/mysite/data", "notifyd")
    assert "ReadWritePaths=/srv/mysite/data" in words
    assert "/etc/systemd/system/notifyd.service.d/site-on-sqlite.conf" in words
    assert words.endswith("setfacl -R -m u:notifyd:rwX /srv/mysite/data")


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("permission denied for table auth_user\n", ("auth_user", "")),
        ("permission denied for relation auth_user", ("auth_user", "")),
        (
            "(1142, \"SELECT command denied to user 'notifyd'@'%' for table 'auth_user'\")",
            ("auth_user", "'notifyd'@'%'"),
        ),
        (
            "(1142, \"SELECT command denied to user 'a'@'b' for table `mysite`.`auth_group`\")",
            ("auth_group", "'a'@'b'"),
        ),
        ('relation "auth_user" does not exist', None),
    ],
)
def test_denied(message: str, found: tuple[str, str] | None) -> None:
    """Databases say which table is denied, and some to whom."""
    assert denied(message) == found


@pytest.mark.parametrize(
    ("tables", "role", "writing", "statements"),
    [
        (["auth_user"], "notifyd", "", "GRANT SELECT ON auth_user TO notifyd;"),
        (
            ["auth_group", "auth_user"],
            "notifyd",
            "auth_user",
            (
                "GRANT SELECT ON auth_group TO notifyd; GRANT SELECT ON auth_user TO notifyd;"
                " GRANT UPDATE (last_login) ON auth_user TO notifyd;"
            ),
        ),
        (["auth_group"], "notifyd", "auth_user", "GRANT SELECT ON auth_group TO notifyd;"),
        (["Users"], "my-role", "", 'GRANT SELECT ON "Users" TO "my-role";'),
        (["auth_user"], "'a'@'b'", "", "GRANT SELECT ON auth_user TO 'a'@'b';"),
    ],
)
def test_grant(tables: list[str], role: str, writing: str, statements: str) -> None:
    """What is missing is granted by statements that can be copied."""
    words = grant(tables, role, writing=writing)
    assert words == f"as the owner of the tables: {statements}"
