"""JWTs in HTTP-only cookies, bound to the user's session version."""

from django.conf import settings
from rest_framework.authentication import CSRFCheck
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import RefreshToken

from community_gateway.sessions import session_version


class CookieLogin(JWTAuthentication):
    """Reads the access token from its cookie. A cookie travels by itself, so what changes something needs the CSRF
    token as well."""

    def authenticate(self, request):
        raw = request.COOKIES.get(settings.JWT_ACCESS_COOKIE)
        if raw is None:
            return None
        token = self.get_validated_token(raw.encode())
        user = self.get_user(token)
        version = token.get("session_version")
        if version is not None and int(version) != session_version(user):
            raise AuthenticationFailed("The session has ended.")
        check = CSRFCheck(lambda _: None)
        check.process_request(request)
        if reason := check.process_view(request, None, (), {}):
            raise PermissionDenied(f"CSRF: {reason}")
        return user, token

    def authenticate_header(self, request):
        return "Cookie"


def tokens_for(user) -> RefreshToken:
    refresh = RefreshToken.for_user(user)
    refresh["session_version"] = session_version(user)
    return refresh


def give_cookies(response, refresh: RefreshToken) -> None:
    for name, token in ((settings.JWT_ACCESS_COOKIE, refresh.access_token), (settings.JWT_REFRESH_COOKIE, refresh)):
        response.set_cookie(name, str(token), max_age=int(token.lifetime.total_seconds()), httponly=True,
                            secure=settings.JWT_COOKIE_SECURE, samesite="Lax")


def take_cookies(response) -> None:
    for name in (settings.JWT_ACCESS_COOKIE, settings.JWT_REFRESH_COOKIE):
        response.delete_cookie(name, samesite="Lax")
