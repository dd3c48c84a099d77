"""The browser's socket: says that something in a project changed; the page then asks for it over HTTP."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest

from brain import live
from brain.permissions import projects_of

SIGNED_OUT = 4401
NOT_FOUND = 4404
#: Seconds between two looks whether the person may still watch.
RECHECK = 10.0


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """Forwards the hints of one project to one open page; tells nothing else and takes no orders."""

    #: It listens by itself: a channel layer that is away must not cost the page its socket.
    channel_layer_alias = ""

    async def connect(self) -> None:
        """Admit who may see the project; the reason of a refusal travels in the close code."""
        await self.accept()
        self._tasks: list[asyncio.Task[None]] = []
        code, project = await self._admission()
        if project is None:
            await self.close(code)
            return
        listening = live.listen(live.project_group(project), self._changed)
        self._tasks = [asyncio.create_task(listening), asyncio.create_task(self._recheck())]
        await self.send_json({"type": "ready"})

    async def disconnect(self, code: int) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        """Ignore what a browser sends."""

    async def _changed(self, message: dict[str, Any]) -> None:
        """Pass a hint on."""
        await self.send_json({"type": "changed"})

    async def _recheck(self) -> None:
        while True:
            await asyncio.sleep(RECHECK)
            code, project = await self._admission()
            if project is None:
                await self.close(code)
                return

    async def _admission(self) -> tuple[int, UUID | None]:
        slug = self.scope["url_route"]["kwargs"]["project"]
        outcome: tuple[int, UUID | None] = await database_sync_to_async(admission)(
            self.scope["session"].session_key, slug
        )
        return outcome


def admission(session_key: str | None, slug: str) -> tuple[int, UUID | None]:
    """Return the project a session may watch; without one, the close code that says why."""
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user = get_user(request)
    if not user.is_authenticated or not user.is_active:
        return SIGNED_OUT, None
    project = projects_of(user).filter(slug=slug).values_list("id", flat=True).first()
    return NOT_FOUND, project
