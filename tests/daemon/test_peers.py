from __future__ import annotations

import pytest

from notifyd.daemon.peers import Peers

PROXIES = Peers(["127.0.0.1", "::1", "unix", "10.0.0.0/8", "2001:db8:1::/48"])


def test_stranger_is_not_believed() -> None:
    """Whoever connects directly has the address it connects from, whatever its header says."""
    assert PROXIES.address("203.0.113.5", ["198.51.100.1"]) == "203.0.113.5"


def test_proxy_is_believed() -> None:
    """The client's address is the one that a trusted proxy was called from."""
    assert PROXIES.address("127.0.0.1", ["203.0.113.5"]) == "203.0.113.5"


@pytest.mark.parametrize("peer", ["unix", "::1", "10.1.2.3", "2001:db8:1::9", "::ffff:10.1.2.3"])
def test_kinds_of_proxies(peer: str) -> None:
    """A trusted proxy may be an address, a network or a Unix socket, in both families."""
    assert PROXIES.address(peer, ["203.0.113.5"]) == "203.0.113.5"


@pytest.mark.parametrize(
    "headers",
    [
        ["198.51.100.1, 203.0.113.5"],
        ["198.51.100.1", "203.0.113.5"],
        ["198.51.100.1,,127.0.0.1, 203.0.113.5,10.0.0.7"],
        ["127.0.0.1, unix, unix:, 203.0.113.5, 2001:db8:1::9 , unix:"],
        ["' OR 1=1, 203.0.113.5"],
    ],
)
def test_spoofed_prefix(headers: list[str]) -> None:
    """What stands before the last address that is no proxy of ours, anybody may have written."""
    assert PROXIES.address("127.0.0.1", headers) == "203.0.113.5"


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("203.0.113.5:61000", "203.0.113.5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("[::ffff:203.0.113.5]:61000", "203.0.113.5"),
        ("2001:DB8::0:5", "2001:db8::5"),
        ("[2001:db8::5]", "2001:db8::5"),
        ("[2001:db8::5]:61000", "2001:db8::5"),
        ("fe80::5%eth0", "fe80::5"),
    ],
)
def test_spellings(written: str, address: str) -> None:
    """A client has one address, however a proxy spells it."""
    assert PROXIES.address("127.0.0.1", [written]) == address


def test_spellings_of_proxies() -> None:
    """A trusted proxy is recognised with a port and in brackets, too."""
    chain = ["203.0.113.5, 10.0.0.7:61000, [2001:db8:1::9]:61000, [::1]"]
    assert PROXIES.address("127.0.0.1", chain) == "203.0.113.5"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [""],
        ["203.0.113.5,"],
        ["unknown"],
        ["_hidden"],
        ["unix"],
        ["["],
        ["203.0.113.500"],
        ["203.0.113.5:80:80"],
        ["203.0.113.5\x00"],
        ["127.0.0.1, 10.0.0.7"],
        ["9" * 5000],
    ],
)
def test_no_address(headers: list[str]) -> None:
    """Where a trusted proxy names no address, nobody can tell its clients apart."""
    assert PROXIES.address("127.0.0.1", headers) is None


def test_untrusted_unix_socket() -> None:
    """Whoever comes through a Unix socket that is not trusted is called after it."""
    assert Peers(["127.0.0.1"]).address("unix", ["203.0.113.5"]) == "unix"
    assert Peers(["127.0.0.1"]).address("127.0.0.1", ["203.0.113.5, unix:"]) is None


def test_mapped_peer() -> None:
    """A direct client that came over IPv4 to an IPv6 socket has its IPv4 address."""
    assert PROXIES.address("::ffff:203.0.113.5", []) == "203.0.113.5"
