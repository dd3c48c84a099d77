"""The ASGI entry: HTTP to Django, ``/ws/agent`` to the gateway, ``/ws/live/…`` to the dashboard."""

from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "z4j_project.settings")
_http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402 - models must be loaded before consumers
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.urls import path  # noqa: E402

from brain.gateway.consumer import AgentConsumer  # noqa: E402
from dashboard.consumer import LiveConsumer  # noqa: E402

_agents = AgentConsumer.as_asgi()
_browsers = AllowedHostsOriginValidator(
    AuthMiddlewareStack(URLRouter([path("ws/live/<slug:project>", LiveConsumer.as_asgi())]))
)


async def _websocket(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["path"] == "/ws/agent":
        await _agents(scope, receive, send)
    elif scope["path"].startswith("/ws/live/"):
        await _browsers(scope, receive, send)
    else:
        await send({"type": "websocket.close"})


application = ProtocolTypeRouter({"http": _http, "websocket": _websocket})
