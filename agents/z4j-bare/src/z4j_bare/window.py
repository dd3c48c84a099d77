"""Which events are on their way: batches, their acknowledgements, repetition, and the search for a poisonous event.

Pure bookkeeping over the buffer; the connection does the sending.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Sequence

from z4j_core import limits
from z4j_core.safety import log_once

from z4j_bare.backoff import POISON_CODES
from z4j_bare.buffer import BufferStore, Row

_IN_FLIGHT_BYTES = 4 * limits.MIB


@dataclasses.dataclass(slots=True)
class Batch:
    """Events that travel in one frame; ``seq`` is the frame's sequence number, ``sent_at`` monotonic seconds."""

    rows: list[Row]
    size: int
    seq: int = 0
    sent_at: float = 0.0
    earlier_ids: tuple[str, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """The events' places in the buffer."""
        return [row.n for row in self.rows]


class Window:
    """The batches of one agent that are not acknowledged, over any number of connections.

    After a connection was closed because of a frame's content, batches go one at a time; a batch that fails twice is
    halved, and a single event that fails twice is dropped and counted.
    """

    def __init__(
        self,
        buffer: BufferStore,
        *,
        max_events: int = limits.SEND_BATCH_EVENTS,
        max_bytes: int = limits.SEND_BATCH_BYTES,
        max_in_flight: int = limits.MAX_IN_FLIGHT,
        ack_timeout: float = limits.ACK_TIMEOUT,
    ) -> None:
        self._buffer = buffer
        self._full = max_events
        self._events = max_events
        self._bytes = max_bytes
        self._max_in_flight = max_in_flight
        self._ack_timeout = ack_timeout
        self._in_flight: OrderedDict[str, Batch] = OrderedDict()
        self._cursor = 0
        self._room = _IN_FLIGHT_BYTES
        self._careful = False
        self._poison_end = 0

    def __len__(self) -> int:
        return len(self._in_flight)

    def restart(self, max_bytes: int | None = None) -> None:
        """Begin a new connection: everything unacknowledged will be sent again, in frames up to ``max_bytes``."""
        self._in_flight.clear()
        self._cursor = 0
        self._room = _IN_FLIGHT_BYTES
        if max_bytes is not None:
            self._bytes = min(limits.SEND_BATCH_BYTES, max(limits.KIB // 2, max_bytes))

    def next_batch(self, now: float) -> Batch | None:
        """Return what to send now: a batch whose acknowledgement is overdue, else new events, else nothing."""
        for identifier, batch in self._in_flight.items():
            if now - batch.sent_at >= self._ack_timeout:
                del self._in_flight[identifier]
                batch.earlier_ids = (*batch.earlier_ids[-3:], identifier)
                return batch
            break
        used = sum(batch.size for batch in self._in_flight.values())
        if self._in_flight and (self._careful or len(self._in_flight) >= self._max_in_flight or used >= self._room):
            return None
        rows = self._buffer.read(self._cursor, self._events, self._bytes)
        if not rows:
            return None
        self._cursor = rows[-1].n
        return Batch(rows, sum(len(row.body) for row in rows))

    def sent(self, identifier: str, batch: Batch, *, seq: int, now: float) -> None:
        """Note that the batch was written as frame ``identifier``."""
        batch.seq, batch.sent_at = seq, now
        self._in_flight[identifier] = batch
        self._buffer.count_sent(len(batch.rows))

    def acknowledged(self, identifier: str, through: int | None, credit: int | None) -> int:
        """Forget the events of the acknowledged frames; return how many there were.

        ``through`` is the sequence number up to which every event frame is stored, ``credit`` the bytes the brain
        allows in flight.
        """
        done = [
            key
            for key, batch in self._in_flight.items()
            if key == identifier or identifier in batch.earlier_ids or (through is not None and batch.seq <= through)
        ]
        numbers = [n for key in done for n in self._in_flight.pop(key).numbers]
        if credit is not None:
            self._room = max(1, min(credit, 4 * _IN_FLIGHT_BYTES))
        if numbers:
            self._buffer.acknowledge(numbers)
            if max(numbers) >= self._poison_end:
                self._careful, self._events = False, self._full
        return len(numbers)

    def closed(self, code: int | None) -> bool:
        """Note how the connection ended; tell whether the content of a frame was the reason."""
        if code not in POISON_CODES or not self._in_flight:
            return False
        batch = next(iter(self._in_flight.values()))
        self._events = len(batch.rows)
        # Only a batch that travelled alone is known to be the culprit, and only when its events failed before.
        if self._careful and batch.rows[0].n <= self._poison_end:
            self._events = max(1, len(batch.rows) // 2)
            if len(batch.rows) == 1:
                log_once("window.poison", "the brain cannot take an event: it is dropped and counted")
                self._buffer.drop(batch.numbers, "rejected")
        self._poison_end = batch.rows[-1].n
        self._careful = True
        return True


def payload_of(rows: Sequence[Row]) -> bytes:
    """Return the canonical JSON payload of an ``event_batch`` with these events."""
    return ('{"events":[' + ",".join(row.body for row in rows) + "]}").encode()
