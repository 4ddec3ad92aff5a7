"""Logging in and out, the socket's token, one's own data."""

from django.conf import settings
from django.contrib.auth import authenticate
from django.middleware.csrf import get_token
from rest_framework.decorators import api_view, authentication_classes, permission_classes, throttle_classes
from rest_framework.exceptions import APIException
from rest_framework.permissions import AllowAny
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import RefreshToken

from community_gateway.sessions import connection_token, log_out_everywhere, session_version

from .login import give_cookies, take_cookies, tokens_for
from .models import User


class Unauthenticated(APIException):
    """401 also where no authentication was asked for, which REST framework would make a 403 of."""

    status_code = 401


class LoginThrottle(ScopedRateThrottle):
    scope = "login"

    def allow_request(self, request, view):
        view.throttle_scope = self.scope
        return super().allow_request(request, view)


def shape(user) -> dict:
    return {"id": str(user.pk), "username": user.username, "avatarUrl": user.avatar_url, "isStaff": user.is_staff}


@api_view(["POST"])
@authentication_classes([])
@permission_classes([AllowAny])
@throttle_classes([LoginThrottle])
def login(request):
    user = authenticate(request, username=str(request.data.get("username", "")), password=str(request.data.get("password", "")))
    if user is None:
        raise Unauthenticated("Wrong name or password.")
    answer = Response({"user": shape(user), "csrfToken": get_token(request._request)})
    give_cookies(answer, tokens_for(user))
    return answer


@api_view(["POST"])
@authentication_classes([])
@permission_classes([AllowAny])
def refresh(request):
    try:
        old = RefreshToken(request.COOKIES.get(settings.JWT_REFRESH_COOKIE, ""))
        user = User.objects.get(pk=old["user_id"], is_active=True)
    except (TokenError, User.DoesNotExist, KeyError):
        raise Unauthenticated("Log in again.") from None
    if int(old.get("session_version", 0)) != session_version(user):
        raise Unauthenticated("Log in again.")
    answer = Response({"user": shape(user)})
    give_cookies(answer, tokens_for(user))
    return answer


@api_view(["POST"])
def logout(request):
    """Forgets this browser's login; `{"everywhere": true}` ends all of them, and every open socket."""
    if request.data.get("everywhere") is True:
        log_out_everywhere(request.user)
    answer = Response(status=204)
    take_cookies(answer)
    return answer


@api_view(["GET"])
def me(request):
    return Response({"user": shape(request.user), "csrfToken": get_token(request._request)})


@api_view(["POST"])
def socket_token(request):
    """A token for one WebSocket."""
    return Response({"connection_token": connection_token(request.user), "expires_in": 60})
