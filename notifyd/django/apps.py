"""What Django needs to know of the app."""

from django.apps import AppConfig


class NotifydConfig(AppConfig):
    """The app: naming it in INSTALLED_APPS publishes the admin's log, and what people may see."""

    name = "notifyd.django"
    # The default would be the last part of the name.
    label = "notifyd"

    def ready(self) -> None:
        """Begin to publish what Django tells of, and register the checks."""
        # Not at the top: the models are there only now.
        from notifyd.django import checks, revocation, signals  # noqa: PLC0415 - see above

        checks.register()
        signals.connect()
        revocation.connect()
