"""First boot: projects, administrator, setup link, the brain's own agent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from brain import agents, bootstrap
from brain.errors import BrainError, InvalidInput, NotFound
from brain.models import Project, SetupToken, User

PASSWORD = "correct horse battery"


@pytest.mark.django_db
def test_projects_are_created_once():
    bootstrap.ensure_projects()
    bootstrap.ensure_projects()
    assert set(Project.objects.values_list("slug", flat=True)) == {"default", "z4j"}


@pytest.mark.django_db
def test_the_environment_creates_an_administrator_only_while_there_is_nobody():
    assert bootstrap.ensure_administrator("root@example.com", PASSWORD)
    assert not bootstrap.ensure_administrator("other@example.com", PASSWORD)
    assert User.objects.get().is_superuser
    with pytest.raises(InvalidInput):
        User.objects.all().delete()
        bootstrap.ensure_administrator("root@example.com", "short")


@pytest.mark.django_db
def test_a_setup_link_works_once_and_only_while_there_is_nobody():
    token = bootstrap.mint_setup_token()
    bootstrap.check_setup_token(token)
    with pytest.raises(NotFound):
        bootstrap.claim_setup("guess", "a@example.com", PASSWORD)
    with pytest.raises(InvalidInput):
        bootstrap.claim_setup(token, "a@example.com", "1234")
    assert bootstrap.claim_setup(token, "a@example.com", PASSWORD).is_superuser
    with pytest.raises(NotFound):
        bootstrap.claim_setup(token, "b@example.com", PASSWORD)
    assert bootstrap.mint_setup_token() is None


@pytest.mark.django_db
def test_a_setup_link_is_void_after_15_minutes():
    first = bootstrap.mint_setup_token()
    second = bootstrap.mint_setup_token()
    bootstrap.check_setup_token(first)
    SetupToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(NotFound):
        bootstrap.check_setup_token(second)


@pytest.mark.storage
@pytest.mark.django_db(transaction=True)
def test_of_many_claims_at_once_exactly_one_succeeds():
    token = bootstrap.mint_setup_token()

    def claim(number: int) -> bool:
        try:
            bootstrap.claim_setup(token, f"u{number}@example.com", PASSWORD)
            return True
        except BrainError:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(16))) == 1
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_the_brains_own_agent_keeps_its_token():
    bootstrap.ensure_projects()
    token = bootstrap.ensure_self_agent()
    assert bootstrap.ensure_self_agent() == token
    assert agents.authenticate(token).project_slug == "z4j"
