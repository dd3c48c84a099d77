from __future__ import annotations

import threading

from z4j_bare.ring import Ring


def test_items_come_out_in_order_and_bounded() -> None:
    ring: Ring[int] = Ring(3)
    assert [ring.put(n) for n in range(5)] == [True, True, True, False, False]
    assert ring.refused() == 2
    assert ring.refused() == 0
    assert ring.take(2) == [0, 1]
    assert ring.take(9) == [2]


def test_every_item_of_many_threads_is_taken_or_counted() -> None:
    ring: Ring[int] = Ring(50)
    producers = [threading.Thread(target=lambda: [ring.put(n) for n in range(5000)]) for _ in range(8)]
    for producer in producers:
        producer.start()
    taken = 0
    while any(producer.is_alive() for producer in producers) or len(ring):
        taken += len(ring.take(10))
    assert taken + ring.refused() == 8 * 5000
