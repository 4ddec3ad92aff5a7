"""The chat page: one page, which logs in and talks to the gateways."""

from django.conf import settings
from django.shortcuts import render
from django.views.decorators.csrf import ensure_csrf_cookie


@ensure_csrf_cookie
def page(request):
    return render(request, "chat.html", {"gateways": settings.GATEWAY_URLS})
