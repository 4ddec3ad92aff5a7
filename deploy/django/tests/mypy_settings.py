"""Settings with which mypy's Django plugin reads the models."""

SECRET_KEY = "for mypy"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.admin", "community_gateway"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
COMMUNITY_GATEWAY = {"MODELS": dict.fromkeys(
    ["room", "message", "thread", "membership", "dm", "block", "queue", "action", "circle_membership"], ""
)}
