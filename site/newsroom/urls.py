"""The newsroom is its admin, and where pages get what they connect to notifyd with."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("notifyd/", include("notifyd.django.urls")),
]
