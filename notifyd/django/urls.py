"""The app's URLs: a site has ``path("notifyd/", include("notifyd.django.urls"))``."""

from django.urls import path

from notifyd.django import views

app_name = "notifyd"

urlpatterns = [path("token/", views.token, name="token")]
