from django.apps import AppConfig


class CommunityConfig(AppConfig):
    name = "core.community"
    label = "community"
