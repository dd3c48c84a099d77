"""The browser's socket."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client

from brain import live
from dashboard import consumer

pytestmark = pytest.mark.django_db(transaction=True)


class Session:
    """What the session middleware puts into the scope."""

    def __init__(self, key: str | None) -> None:
        self.session_key = key


def socket(key: str | None, slug: str = "shop") -> WebsocketCommunicator:
    communicator = WebsocketCommunicator(consumer.LiveConsumer.as_asgi(), f"/ws/live/{slug}")
    communicator.scope["session"] = Session(key)
    communicator.scope["url_route"] = {"kwargs": {"project": slug}}
    return communicator


def sign_in(user: object) -> str:
    client = Client()
    client.force_login(user)
    return client.session.session_key


async def closed(communicator: WebsocketCommunicator) -> int:
    await communicator.connect()
    message = await communicator.receive_output(5)
    assert message["type"] == "websocket.close"
    return message["code"]


async def test_a_member_gets_the_hints_of_the_project_and_of_no_other(cast, project, elsewhere):
    communicator = socket(await sync_to_async(sign_in)(cast["carol"]))
    await communicator.connect()
    assert await communicator.receive_json_from(5) == {"type": "ready"}
    layer = get_channel_layer()
    await layer.group_send(live.project_group(elsewhere.id), {"type": "project.changed"})
    assert await communicator.receive_nothing(0.2)
    await layer.group_send(live.project_group(project.id), {"type": "project.changed"})
    assert await communicator.receive_json_from(5) == {"type": "changed"}
    await communicator.disconnect()


async def test_a_stranger_and_the_signed_out_are_closed(cast, project):
    assert await closed(socket(await sync_to_async(sign_in)(cast["mallory"]))) == consumer.NOT_FOUND
    assert await closed(socket(None)) == consumer.SIGNED_OUT
    assert await closed(socket("nonsense")) == consumer.SIGNED_OUT


async def test_logging_out_closes_the_socket(cast, project, monkeypatch):
    monkeypatch.setattr(consumer, "RECHECK", 0.05)
    key = await sync_to_async(sign_in)(cast["bob"])
    communicator = socket(key)
    await communicator.connect()
    await communicator.receive_json_from(5)
    await sync_to_async(SessionStore(key).flush)()
    message = await communicator.receive_output(5)
    assert (message["type"], message["code"]) == ("websocket.close", consumer.SIGNED_OUT)


async def test_leaving_the_project_or_being_disabled_closes_the_socket(cast, project, monkeypatch):
    monkeypatch.setattr(consumer, "RECHECK", 0.05)
    communicator = socket(await sync_to_async(sign_in)(cast["bob"]))
    await communicator.connect()
    await communicator.receive_json_from(5)
    await sync_to_async(get_user_model().objects.filter(pk=cast["bob"].pk).update)(is_active=False)
    assert (await communicator.receive_output(5))["code"] == consumer.SIGNED_OUT
    await asyncio.sleep(0)
