"""The admin, notifyd, and a page that listens."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView

urlpatterns = [
    path("admin/", admin.site.urls),
    path("notifyd/", include("notifyd.django.urls")),
    path("", TemplateView.as_view(template_name="page.html")),
]
