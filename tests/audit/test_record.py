"""The audit log: gapless, chained, append-only, there only if its transaction commits."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.db import connection, transaction

from audit.chain import GENESIS, link
from audit.models import AppendOnly, Chain, Entry
from audit.record import record

CHAIN = uuid.uuid4()


def add(number: int = 0) -> Entry:
    return record(chain_id=CHAIN, actor="alice@example.com", action="task.retry", target=f"task:{number}")


@pytest.mark.django_db
def test_entries_are_chained_over_their_exact_text():
    for number in range(5):
        add(number)
    previous = GENESIS
    for entry in Entry.objects.filter(chain_id=CHAIN).order_by("seq"):
        mac = link(settings.Z4J_CONFIG.key("audit"), CHAIN, entry.seq, previous, entry.body)
        assert mac == bytes(entry.mac)
        previous = mac
    assert bytes(Chain.objects.get(id=CHAIN).head) == previous


@pytest.mark.django_db
def test_entries_refuse_change_and_deletion():
    entry = add()
    for attempt in (entry.save, entry.delete, Entry.objects.all().delete, lambda: Entry.objects.update(actor="x")):
        with pytest.raises(AppendOnly):
            attempt()


@pytest.mark.django_db(transaction=True)
def test_an_entry_goes_with_its_transaction():
    with pytest.raises(RuntimeError), transaction.atomic():
        add()
        raise RuntimeError
    assert Entry.objects.count() == 0
    assert add().seq == 1


@pytest.mark.storage
@pytest.mark.django_db(transaction=True)
def test_many_writers_leave_no_gap():
    def write(number: int) -> None:
        try:
            add(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert list(Entry.objects.order_by("seq").values_list("seq", flat=True)) == list(range(1, 41))
