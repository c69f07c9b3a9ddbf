"""The page."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from notifyd.django import notify


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Show what happens, and tell everyone what somebody has to say."""
    if request.method == "POST":
        event = {"words": request.POST["words"], "user": request.user.get_username()}
        notify(event, everyone=True)
        return redirect("home")
    return render(request, "notes/home.html")
