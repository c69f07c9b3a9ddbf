"""The unit of notifyd's instances, made from that of the single service: all else is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Final

UNIT: Final = Path(__file__).resolve().parents[1] / "packaging" / "systemd" / "notifyd.service"

# Each of these stands once in the unit of the single service.
_CHANGES: Final = (
    (
        UNIT.read_text("utf-8").partition("\n\n")[0],
        (
            "# One of several daemons on this machine: notifyd@SITE reads\n"
            "# /etc/notifyd/SITE.toml, and so do notifyd@SITE-1, notifyd@SITE-2 and so on, which\n"
            "# share the site's port. Made by docs/generate.py from notifyd.service; change it\n"
            "# with `systemctl edit notifyd@SITE`."
        ),
    ),
    ("Description=notifyd,", "Description=notifyd %i,"),
    (
        "Requires=notifyd.socket notifyd-admin.socket",
        "Requires=notifyd@%i.socket notifyd-admin@%i.socket",
    ),
    (
        "After=notifyd.socket notifyd-admin.socket",
        "After=notifyd@%i.socket notifyd-admin@%i.socket",
    ),
    (
        "ExecStart=/usr/lib/notifyd/bin/notifyd run",
        "ExecStart=/usr/lib/notifyd/bin/notifyd run --instance %i",
    ),
    (
        "ExecReload=/usr/lib/notifyd/bin/notifyd reload",
        "ExecReload=/usr/lib/notifyd/bin/notifyd reload --instance %i",
    ),
    ("%n %t/notifyd/control", "%n %t/notifyd-%i/control"),
    (
        "Environment=NOTIFYD_CONTROL_SOCKET=%t/notifyd/control",
        (
            "Environment=NOTIFYD_CONTROL_SOCKET=%t/notifyd-%i/control\n"
            "# It listens at its own sockets, whatever the configuration that it shares says.\n"
            "Environment=NOTIFYD_SERVER_LISTEN=systemd:public NOTIFYD_ADMIN_LISTEN=systemd:admin"
        ),
    ),
    (
        "EnvironmentFile=-/etc/default/notifyd",
        (
            "EnvironmentFile=-/etc/default/notifyd\n"
            "# The same for this instance alone.\n"
            "EnvironmentFile=-/etc/default/notifyd-%i"
        ),
    ),
    ("# /run/notifyd, where", "# /run/notifyd-INSTANCE, where"),
    ("RuntimeDirectory=notifyd\n", "RuntimeDirectory=notifyd-%i\n"),
    ("read-only but /run/notifyd,", "read-only but that,"),
    (
        (
            "# Started with the machine, once `systemctl enable notifyd` was typed.\n"
            "WantedBy=multi-user.target"
        ),
        (
            "# Started with the target, once `systemctl enable notifyd@SITE` was typed.\n"
            "WantedBy=notifyd.target"
        ),
    ),
    (
        "Also=notifyd.socket notifyd-admin.socket",
        "Also=notifyd@%i.socket notifyd-admin@%i.socket notifyd.target",
    ),
)


def instance_unit() -> str:
    """Return notifyd@.service."""
    text = UNIT.read_text("utf-8")
    for old, new in _CHANGES:
        if text.count(old) != 1:
            raise ValueError(f"{UNIT.name} has this {text.count(old)} times: {old}")
        text = text.replace(old, new)
    return text
