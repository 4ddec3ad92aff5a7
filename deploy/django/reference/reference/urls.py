"""Everything over HTTP."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/ws/", include("community_gateway.urls")),
]
