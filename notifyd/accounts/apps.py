"""How Django knows the app."""

from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """The app, by a label that no site has."""

    name = "notifyd.accounts"
    label = "notifyd_accounts"
