"""`path("api/ws/", include("community_gateway.urls"))` gives `POST api/ws/token/`."""

from django.urls import path

from . import views

app_name = "community_gateway"
urlpatterns = [path("token/", views.token, name="token")]
