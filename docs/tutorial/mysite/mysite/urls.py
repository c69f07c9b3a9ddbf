"""Where everything is."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("notifyd/", include("notifyd.django.urls")),
    path("", include("notes.urls")),
]
