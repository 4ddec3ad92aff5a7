"""Everything over HTTP."""

from django.contrib import admin
from django.urls import include, path

from core.community.views.page import page

urlpatterns = [
    path("", page),
    path("admin/", admin.site.urls),
    path("api/auth/", include("core.users.urls")),
    path("api/community/", include("core.community.urls")),
    path("api/ws/", include("community_gateway.urls")),
]
