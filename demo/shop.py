"""The shop: a Celery app with tasks that succeed, fail, retry and take their time. All of it is made up."""

from __future__ import annotations

import os
import random
import time

from celery import Celery, Task
from z4j_bare import install_agent
from z4j_celery import CeleryEngineAdapter

app = Celery("shop", broker=os.environ.get("SHOP_BROKER", "redis://127.0.0.1:6379/0"))
app.conf.update(
    task_default_queue="default",
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    task_routes={
        "shop.mail.*": {"queue": "mail"},
        "shop.media.*": {"queue": "media"},
        "shop.reports.*": {"queue": "reports"},
    },
)


class CardDeclined(Exception):
    """The bank said no."""


class MailServerBusy(Exception):
    """The mail server asked to come back later."""


@app.task(name="shop.orders.charge")
def charge(order: int, amount_cents: int, currency: str = "EUR") -> str:
    """Charge an order; one in twelve is declined."""
    time.sleep(random.uniform(0.02, 0.15))
    if order % 12 == 0:
        raise CardDeclined(f"order {order}: the bank declined {amount_cents / 100:.2f} {currency}")
    return f"charged {amount_cents / 100:.2f} {currency}"


@app.task(name="shop.mail.send_receipt", bind=True, max_retries=3)
def send_receipt(self: Task, order: int, to: str) -> str:
    """Send a receipt; the mail server is busy now and then, and some addresses never work."""
    time.sleep(random.uniform(0.01, 0.05))
    busy = order % 7 == 0 and self.request.retries < 2
    if busy or order % 35 == 0:
        raise self.retry(exc=MailServerBusy(f"421 try again later ({to})"), countdown=2 + self.request.retries)
    return f"sent to {to}"


@app.task(name="shop.media.thumbnail")
def thumbnail(image: str, width: int) -> dict[str, object]:
    """Make a thumbnail; a broken image fails."""
    time.sleep(random.uniform(0.05, 0.4))
    if image.endswith("13.jpg"):
        raise ValueError(f"cannot read {image}: truncated file")
    return {"image": image, "size": [width, width * 3 // 4]}


@app.task(name="shop.reports.build")
def build_report(day: str, rows: int) -> str:
    """Build a report; takes some seconds."""
    time.sleep(random.uniform(3, 9))
    return f"{day}: {rows} rows"


agent = install_agent(engines=[CeleryEngineAdapter(celery_app=app)], autostart=bool(os.environ.get("Z4J_TOKEN")))
