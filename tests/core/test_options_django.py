from __future__ import annotations

from notifyd.core.options_django import Django


def test_secrets_stay_out_of_sight() -> None:
    """Neither keys nor the database's password are in the representation."""
    options = Django(
        database="postgresql://u:secret@/x",
        secret_key="a secret",
        secret_key_fallbacks=("another secret",),
    )
    assert "secret" not in repr(options)
