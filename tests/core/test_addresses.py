from __future__ import annotations

import pytest

from notifyd.core.addresses import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:8888", Address(host="localhost", port=8888)),
        ("Proxy_1.Example.com:0", Address(host="proxy_1.example.com")),
        ("0.0.0.0:80", Address(host="0.0.0.0", port=80)),
        ("[0:0::1]:65535", Address(host="::1", port=65535)),
        ("[fe80::1%eth0]:80", Address(host="fe80::1%eth0", port=80)),
        ("unix:/run/notifyd/public.sock", Address(path="/run/notifyd/public.sock")),
        ("systemd:public", Address(name="public")),
    ],
)
def test_forms(text: str, address: Address) -> None:
    """An address is a host and port, IPv6 in brackets, a Unix socket's path, or a unit's name."""
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("localhost", "has no port"),
        ("localhost:", "no port after the last colon"),
        ("localhost:http", "write a number from 0 to 65535"),
        ("localhost:\N{SUPERSCRIPT TWO}", "no port after the last colon"),
        ("localhost:65536", "too large"),
        ("localhost:100000", "write a number from 0 to 65535"),
        (":8888", "names no host"),
        ("*:8888", "0.0.0.0:PORT"),
        ("::1:8888", "needs brackets"),
        ("[127.0.0.1]:8888", "needs brackets around IPv6 and only there"),
        ("[localhost]:8888", "no valid host"),
        ("127.1:8888", "no valid host"),
        ("-x:8888", "no valid host"),
        ("two words:8888", "no valid host"),
        ("http://localhost:8888", "without a scheme"),
        ("unix:notifyd.sock", "is no absolute path"),
        ("unix:/a\0b", "is no absolute path"),
        ("unix:/" + 107 * "x", "use 107 bytes"),
        ("systemd:", "FileDescriptorName="),
        ("systemd:two words", "FileDescriptorName="),
    ],
)
def test_what_is_no_address(text: str, hint: str) -> None:
    """What can't be listened at is refused with what to write instead."""
    with pytest.raises(ValueError, match=hint):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("localhost:1", True),
        ("127.1.2.3:1", True),
        ("[::1]:1", True),
        ("unix:/run/x", True),
        ("systemd:public", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.0.2.1:1", False),
        ("localhost.example.com:1", False),
    ],
)
def test_local(text: str, *, local: bool) -> None:
    """Only loopback, localhost and Unix sockets are out of other machines' reach."""
    assert parse_address(text).local is local
