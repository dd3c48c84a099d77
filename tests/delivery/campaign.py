"""How much a run does, and what it says at its end.

``Z4J_TEST_SEED`` makes a run repeatable, ``Z4J_TEST_SOAK=1`` takes the long counts.
"""

from __future__ import annotations

import dataclasses
import os
import random
import time

SOAK = os.environ.get("Z4J_TEST_SOAK") == "1"
SEED = int(os.environ.get("Z4J_TEST_SEED") or random.SystemRandom().randrange(2**32))

BRAIN_KILLS = 200 if SOAK else 16
BRAIN_KILLS_POSTGRESQL = 50 if SOAK else 3
DATABASE_KILLS = 50 if SOAK else 5
AGENT_KILLS = 200 if SOAK else 50
#: Cuts a database and a direction; the soak cuts after every byte.
CUTS = None if SOAK else 55
#: Agents that come back at once, and the batches of 25 events each of them has waiting.
STORM_LANES, STORM_BATCHES = 40, 8
#: Connections on which each fault takes effect.
FAULTS = 60 if SOAK else 8
CLOCK_STEPS = 10 if SOAK else 2


def chance(name: str) -> random.Random:
    """Return the source of randomness of one test: the same for the same seed, whatever ran before."""
    return random.Random(f"{SEED}:{name}")


@dataclasses.dataclass(slots=True)
class Outcome:
    """What one run did: ``stated`` is how many attempts it promises, ``struck`` how many took effect."""

    what: str
    stated: int
    struck: int = 0
    produced: int = 0
    acknowledged: int = 0
    visible: int = 0
    dropped: int = 0
    buffered: int = 0
    lost: int = 0
    notes: str = ""
    began: float = dataclasses.field(default_factory=time.monotonic)

    def line(self) -> str:
        """Return the outcome in one line."""
        return (
            f"{self.what}: seed {SEED}, attempted {self.struck} of {self.stated}, produced {self.produced}, "
            f"acknowledged {self.acknowledged}, visible {self.visible}, dropped {self.dropped}, "
            f"buffered {self.buffered}, lost with killed producers {self.lost}, "
            f"{time.monotonic() - self.began:.0f} s{f', {self.notes}' if self.notes else ''}"
        )

    def close(self) -> None:
        """Print the outcome. A run that attempted less than it states, or had nothing to lose, has failed."""
        print(self.line())
        assert self.struck >= self.stated > 0, self.line()
        assert self.produced > 0, self.line()
        assert self.visible + self.dropped + self.buffered + self.lost == self.produced, self.line()
