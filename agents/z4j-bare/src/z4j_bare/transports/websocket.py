"""The WebSocket transport. Imported in the agent's own thread only: the library costs tens of milliseconds."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.proxy import get_proxy
from websockets.uri import parse_uri
from z4j_core import limits
from z4j_core.errors import ActionRefused
from z4j_core.offload import Offload
from z4j_core.versions import package_version

from z4j_bare.config import AgentConfig
from z4j_bare.transports.base import TransportClosed

_OPEN_TIMEOUT = 15.0
#: A server that does not speak TLS often waits in silence for the rest of what it takes for a request.
_TLS_TIMEOUT = 5.0
_PING = 60.0
_CLOSE_TIMEOUT = 1.0
_USER_AGENT = f"z4j-bare/{package_version('z4j-bare')}"
_resolver = Offload(workers=2)

# The library's own log would tell the host about every reconnect; the agent says what matters itself.
_quiet = logging.getLogger("z4j.websocket")
_quiet.setLevel(logging.CRITICAL)


class WebSocketTransport:
    """An open WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, message: bytes) -> None:
        """Write one binary message."""
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def receive(self) -> bytes:
        """Return the next message, text as its UTF-8 bytes."""
        try:
            message = await self._connection.recv()
        except ConnectionClosed as error:
            raise _closed(error) from None
        return message.encode() if isinstance(message, str) else message

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame and wait a moment for the answer."""
        try:
            await self._connection.close(code, reason[:100])
        except (WebSocketException, OSError):
            return


def _closed(error: ConnectionClosed) -> TransportClosed:
    frame = error.rcvd
    if frame is None:
        return TransportClosed("", code=1006)
    return TransportClosed(frame.reason, code=frame.code)


async def _socket(url: str) -> socket.socket | None:
    """Return a connected TCP socket, ``None`` when a proxy of the environment has to be used.

    Names are resolved on a daemon thread. The event loop would do it on a thread that the interpreter joins at exit,
    so a dead name server would hold the host there.
    """
    if get_proxy(parse_uri(url)) is not None:
        return None
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    lookup = _resolver.submit(lambda: socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM))
    problem: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in await asyncio.wrap_future(lookup):
        connecting = socket.socket(family, kind, protocol)
        connecting.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connecting, address)
        except OSError as error:
            connecting.close()
            problem = error
        except asyncio.CancelledError:
            connecting.close()
            raise
        else:
            return connecting
    raise problem


async def open_websocket(config: AgentConfig) -> WebSocketTransport:
    """Connect to the brain. Raises :class:`TransportClosed` when that fails."""
    try:
        # Building the TLS context reads the CA store: milliseconds of the loop, paid once a connection.
        connection = await connect(
            config.url,
            sock=await asyncio.wait_for(_socket(config.url), _OPEN_TIMEOUT),
            additional_headers={"Authorization": f"Bearer {config.token}"},
            user_agent_header=_USER_AGENT,
            **_tls(config),
            open_timeout=_OPEN_TIMEOUT,
            close_timeout=_CLOSE_TIMEOUT,
            ping_interval=_PING,
            ping_timeout=_PING,
            max_size=limits.MAX_FRAME_BYTES,
            compression=None,
            logger=_quiet,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        raise TransportClosed(f"the server answered HTTP {status}", status=status) from None
    except (OSError, WebSocketException, ValueError, ActionRefused) as error:
        raise TransportClosed(_told(error, config.url)[:400]) from None
    return WebSocketTransport(connection)


def _tls(config: AgentConfig) -> dict[str, Any]:
    context = config.ssl_context()
    return {} if context is None else {"ssl": context, "ssl_handshake_timeout": _TLS_TIMEOUT}


def _told(error: Exception, url: str) -> str:
    """Return what went wrong before the upgrade, with a hint where there is a usual reason."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the brain's certificate is not trusted: {text}; is ca_file right?"
    # "Aborted" is what asyncio says when its limit for the handshake is over; plain servers reset, answer or wait.
    if isinstance(error, ssl.SSLError | ConnectionAbortedError | ConnectionResetError) and url.startswith("wss:"):
        server = urlsplit(url).netloc.rpartition("@")[2]
        return f"the TLS handshake with {server} failed ({text}): does it speak TLS, or did you mean http://?"
    return text
