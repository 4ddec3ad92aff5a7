"""An app of its own, so that who does not want the indexes does not install it."""

from django.apps import AppConfig


class IndexesConfig(AppConfig):
    name = "community_gateway.indexes"
    label = "community_gateway_indexes"
    verbose_name = "Community gateway: partial indexes"
