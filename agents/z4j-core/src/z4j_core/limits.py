"""Every size and rate cap of the wire, for both ends."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

#: Largest frame either side accepts, in bytes; the brain repeats it in ``hello_ack``.
MAX_FRAME_BYTES: Final = 1 * MIB
#: Deepest nesting of arrays and objects in a frame.
MAX_DEPTH: Final = 32
#: Largest number of events the brain accepts in one ``event_batch``.
MAX_BATCH_EVENTS: Final = 5000
#: What our own agents put in one ``event_batch`` at the most: events, and bytes of their JSON.
SEND_BATCH_EVENTS: Final = 500
SEND_BATCH_BYTES: Final = 256 * KIB
#: Unacknowledged batches one connection may have in flight.
MAX_IN_FLIGHT: Final = 256
#: Seconds without an ``event_batch_ack`` after which a batch is sent again on the same connection.
ACK_TIMEOUT: Final = 90.0

MAX_ID: Final = 64
MAX_NONCE: Final = 32
MAX_TASK_ID: Final = 255
MAX_NAME: Final = 255
MAX_TEXT: Final = 64 * KIB
MAX_ERROR: Final = 8192
MAX_LIST: Final = 1000
#: Largest integer of the wire (signed 64 bit).
MAX_INT: Final = 2**63 - 1

#: Seconds a frame's ``ts`` may lie from the receiver's clock (wire protocol, section 4).
CLOCK_WINDOW: Final = 60.0
#: Seconds a nonce is remembered, and how many at the most.
NONCE_TTL: Final = 180.0
NONCE_CAP: Final = 4096
#: Seconds an agent waits for ``hello_ack``, and the brain for ``hello``.
HANDSHAKE_TIMEOUT: Final = 10.0
#: Seconds without any frame after which the brain closes a connection (4408).
IDLE_TIMEOUT: Final = 90.0
#: Seconds an agent remembers a successful command, to answer a repetition without doing it twice.
COMMAND_MEMORY: Final = 300.0
#: Commands it remembers at the most; beyond them it takes no new ones.
COMMAND_MEMORY_CAP: Final = 10_000
#: What the policy ``operate`` allows: commands a minute, for each process, and ids in one command.
POLICY_COMMANDS_PER_MINUTE: Final = 60
POLICY_BULK_IDS: Final = 1000

#: Longest argument, result or traceback our agents put in an event, in characters of JSON or text.
MAX_ARGUMENTS: Final = 16 * KIB
MAX_RESULT: Final = 8 * KIB
MAX_TRACEBACK: Final = 32 * KIB
