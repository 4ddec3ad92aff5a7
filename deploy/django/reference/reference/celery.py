"""The worker: `celery -A reference worker`."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "reference.settings")
app = Celery("reference")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.set_default()  # for every thread, Daphne's among them
app.autodiscover_tasks()
