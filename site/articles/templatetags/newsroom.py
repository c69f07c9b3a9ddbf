"""What the newsroom's templates ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import template
from django.contrib.contenttypes.models import ContentType

if TYPE_CHECKING:
    from django.template import Context

register = template.Library()


@register.simple_tag(takes_context=True)
def changelists(context: Context) -> dict[int, str]:
    """Return where in the admin each kind of object is listed, by its content type.

    Events name the content type of what they tell of; only what this user may see has an entry.
    """
    return {
        ContentType.objects.get_for_model(model["model"]).pk: model["admin_url"]
        for app in context.get("available_apps") or []
        for model in app["models"]
        if model["admin_url"]
    }
