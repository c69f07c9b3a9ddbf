from django.apps import AppConfig


class ArticlesConfig(AppConfig):
    """The newsroom's only app."""

    name = "articles"

    def ready(self) -> None:
        """Publish what is done in the admin from now on."""
        # Not at the top: the module needs models, which are there only now.
        from articles import publisher  # noqa: PLC0415 - see above

        publisher.connect()
