"""HTTP and the old Channels consumers: `daphne reference.asgi:application`."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "reference.settings")
http = get_asgi_application()
if settings.DEBUG:  # in production the proxy serves the files
    http = ASGIStaticFilesHandler(http)

from core.community.middleware import SocketLogin  # noqa: E402 (the apps must be loaded first)
from core.community.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter({"http": http, "websocket": SocketLogin(URLRouter(websocket_urlpatterns))})
