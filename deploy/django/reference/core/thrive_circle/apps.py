from django.apps import AppConfig


class CirclesConfig(AppConfig):
    name = "core.thrive_circle"
    label = "thrive_circle"
    verbose_name = "Circles"

    def ready(self):
        from . import signals

        signals.connect()
