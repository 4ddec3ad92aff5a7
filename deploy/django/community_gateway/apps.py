"""The app: checks, signals, Celery."""

from django.apps import AppConfig
from django.core.checks import register


class CommunityGatewayConfig(AppConfig):
    name = "community_gateway"
    verbose_name = "Community gateway"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import handover, signals
        from .checks import check

        register(check)
        signals.connect()
        handover.connect()
