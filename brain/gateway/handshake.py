"""The handshake: headers and ``hello`` in, identity or a refusal with its close code out. Pure.

Source: wire protocol, sections 2 and 7.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime

from z4j_core import limits
from z4j_core.errors import FrameError, VersionMismatch
from z4j_core.frames import Frame, Hello, HelloAck, decode
from z4j_core.signing import Binding, Signer, Verifier
from z4j_core.versions import compatible, package_version

from brain.agents import Credential, announced
from brain.errors import HandshakeRefused
from brain.gateway import content
from brain.ingest import Source

BAD_FRAME = 4400
BAD_TOKEN = 4401
BAD_SIGNATURE = 4403
IDLE = 4408
BAD_VERSION = 4426
TOO_MANY = 4429
REVOKED = 4003
REPLACED = 4002
RESTARTING = 4012

HEARTBEAT_SECONDS = 30
BATCH_FEATURE = "z4j_batch_v1"


@dataclasses.dataclass(slots=True)
class Session:
    """An authenticated connection after ``hello``."""

    credential: Credential
    hello: Hello
    session_id: str
    source: Source
    signer: Signer
    verifier: Verifier
    capabilities: dict[str, frozenset[str]]

    @property
    def batches(self) -> bool:
        """Whether one ack may stand for several batches."""
        return BATCH_FEATURE in self.hello.runtime_features


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the bearer token of a request; None when the request comes from a browser or has no token.

    Raises :class:`HandshakeRefused` with close code 4401 for a request without a token.
    """
    token = ""
    for name, value in headers:
        if name in {b"origin", b"cookie"}:
            return None
        if name == b"authorization":
            scheme, _, rest = value.decode("latin-1").partition(" ")
            token = rest.strip() if scheme.lower() == "bearer" else ""
    if not token:
        raise HandshakeRefused("no bearer token in the Authorization header", close_code=BAD_TOKEN)
    return token


def admit(credential: Credential | None) -> Credential:
    """Return the credential, or raise :class:`HandshakeRefused`."""
    if credential is None:
        raise HandshakeRefused("the token is not valid or was revoked", close_code=BAD_TOKEN)
    return credential


def read_hello(raw: bytes) -> Hello:
    """Return the first frame of a connection. Raises :class:`HandshakeRefused`."""
    try:
        frame: Frame = decode(content.parse(raw))
    except VersionMismatch as error:
        raise HandshakeRefused(str(error), close_code=BAD_VERSION) from error
    except FrameError as error:
        raise HandshakeRefused(str(error), close_code=BAD_FRAME) from error
    if not isinstance(frame, Hello):
        raise HandshakeRefused(f"the first frame is {frame.type}, not hello", close_code=BAD_FRAME)
    if not compatible(frame.protocol_version):
        raise HandshakeRefused(f"protocol version {frame.protocol_version!r} is not 2", close_code=BAD_VERSION)
    return frame


def open_session(credential: Credential, hello: Hello, session_id: str) -> tuple[Session, HelloAck]:
    """Return the session and the answer to ``hello``."""
    binding = Binding(str(credential.agent_id), str(credential.project_id), session_id)
    session = Session(
        credential=credential,
        hello=hello,
        session_id=session_id,
        source=Source(credential.project_id, credential.agent_id),
        signer=Signer(credential.secret, binding),
        verifier=Verifier(credential.secret, binding),
        capabilities=announced(hello),
    )
    ack = HelloAck(
        id=hello.id,
        brain_version=package_version("z4j"),
        agent_id=binding.agent_id,
        project_id=binding.project_id,
        session_id=session_id,
        heartbeat_interval_seconds=HEARTBEAT_SECONDS,
        max_frame_size_bytes=limits.MAX_FRAME_BYTES,
    )
    return session, ack


def skew_ms(ts: str | None, now: datetime) -> int | None:
    """Return by how many milliseconds the sender's clock is ahead; None when it sent no usable time."""
    if not ts:
        return None
    try:
        moment = datetime.fromisoformat(ts)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    span = int((moment - now).total_seconds() * 1000)
    return max(-(2**31), min(span, 2**31 - 1))
