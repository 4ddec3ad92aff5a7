"""The app: checks and signals."""

from django.apps import AppConfig
from django.core.checks import register


class CommunityGatewayConfig(AppConfig):
    name = "community_gateway"
    verbose_name = "Community gateway"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import signals
        from .checks import check

        register(check)
        signals.connect()
