"""HTTP only, for who serves the sockets by the gateway alone."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "reference.settings")
application = get_wsgi_application()
