from django.apps import AppConfig


class ArticlesConfig(AppConfig):
    """The newsroom's own app: what it is about."""

    name = "articles"
