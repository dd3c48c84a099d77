"""All URLs: admin, dashboard, health."""

from django.contrib import admin
from django.urls import include, path

from z4j_project.health import healthz

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("admin/", admin.site.urls),
    path("", include("dashboard.urls")),
]
