"""The token view, for projects that have none."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from .conf import config
from .sessions import connection_token


@never_cache
@require_POST
def token(request: HttpRequest) -> JsonResponse:
    """`POST` by who is logged in: `{"connection_token": …, "expires_in": 60}`, for one socket.

    Django's session decides who it is. A project that logs in otherwise calls `connection_token(user)` in a view of its
    own.
    """
    user = request.user
    if not isinstance(user, get_user_model()) or not user.is_active:
        return JsonResponse({"error": "Authentication required"}, status=401)
    return JsonResponse({"connection_token": connection_token(user), "expires_in": config.TOKEN_SECONDS})
