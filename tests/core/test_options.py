from __future__ import annotations

from notifyd.core.options import Config, Redis


def test_secrets_stay_out_of_sight() -> None:
    """The representation of a configuration holds no secret."""
    assert "secret" not in repr(Config(redis=Redis(url="redis://:secret@localhost")))


def test_where_it_came_from_is_no_part_of_it() -> None:
    """Two configurations with the same values are equal, wherever the values came from."""
    assert Config(sources={"log.level": "default"}) == Config()


def test_how_long_a_login_lasts() -> None:
    """A ticket is good for 15 minutes, and every audience is read anew every five."""
    auth = Config().auth
    assert (auth.ticket_ttl, auth.sweep) == (15 * 60, 5 * 60)
    assert auth.ticket_ttl < auth.lifetime
