"""Customers: keeps sending the shop's tasks until it is stopped."""

from __future__ import annotations

import itertools
import random
import time

from demo.shop import agent, build_report, charge, send_receipt, thumbnail


def main() -> None:
    """Send about three tasks a second, and a report now and then."""
    try:
        for order in itertools.count(1):
            charge.delay(order, random.randrange(500, 20_000))
            send_receipt.delay(order, to=f"customer{order % 90}@example.com")
            if order % 2 == 0:
                thumbnail.delay(f"product-{order % 40}.jpg", width=320)
            if order % 20 == 1:
                build_report.delay(day=time.strftime("%Y-%m-%d"), rows=random.randrange(1000, 90_000))
            if order % 25 == 0:
                thumbnail.apply_async(("catalogue.jpg", 640), countdown=45)
            time.sleep(random.uniform(0.4, 1.1))
    except KeyboardInterrupt:
        agent.stop()


if __name__ == "__main__":
    main()
