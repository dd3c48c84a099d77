"""One page, which publishes a task."""

from django.http import HttpResponse
from django.urls import path


def index(request):
    from shop.celery import add

    return HttpResponse(add.delay(1, 2).id if "publish" in request.GET else "hello")


urlpatterns = [path("", index)]
