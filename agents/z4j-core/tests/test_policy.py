from __future__ import annotations

from typing import Any

import pytest
from z4j_core import limits
from z4j_core.policy import Gate, Policy, RateCap, judge

RETRY = {"engine": "celery", "task_id": "t1", "task_name": "shop.pay", "queue": "mail"}


def knows(kind: str, name: str) -> bool:
    return (kind, name) in (("task", "shop.pay"), ("task", "billing.charge"), ("queue", "mail"))


@pytest.mark.parametrize(
    ("policy", "action", "more", "refusal"),
    [
        ({}, "retry_task", {}, None),
        ({}, "cancel_task", {}, None),
        ({}, "explode", {}, "Z4J_POLICY=operate does not include 'explode'"),
        ({"mode": "observe"}, "retry_task", {}, "Z4J_POLICY=observe allows no actions"),
        ({"mode": "observe", "allow_actions": ("*",)}, "retry_task", {}, "Z4J_POLICY=observe allows no actions"),
        ({}, "retry_task", {"task_name": "os.system"}, "Z4J_POLICY=operate: the engine knows no task 'os.system'"),
        ({}, "retry_task", {"task_name": ""}, "Z4J_POLICY=operate: the command names no task"),
        ({}, "retry_task", {"queue": "other"}, "Z4J_POLICY=operate: the engine knows no queue 'other'"),
        ({}, "retry_task", {"queue": None}, None),
        ({"mode": "full"}, "retry_task", {"task_name": "os.system", "queue": "other"}, None),
        ({"deny_actions": ("retry_*",)}, "retry_task", {}, "Z4J_POLICY_DENY_ACTIONS denies the action 'retry_task'"),
        (
            {"mode": "full", "allow_actions": ("cancel_task",)},
            "retry_task",
            {},
            "Z4J_POLICY_ALLOW_ACTIONS does not list the action 'retry_task'",
        ),
        ({"allow_actions": ()}, "cancel_task", {}, "Z4J_POLICY_ALLOW_ACTIONS does not list the action 'cancel_task'"),
        ({"deny_tasks": ("billing.*",)}, "retry_task", {}, None),
        (
            {"deny_tasks": ("billing.*",)},
            "retry_task",
            {"task_name": "billing.charge"},
            "Z4J_POLICY_DENY_TASKS denies the task 'billing.charge'",
        ),
        (
            {"allow_tasks": ("*",), "deny_tasks": ("billing.*",)},
            "cancel_task",
            {"task_name": "billing.charge"},
            "Z4J_POLICY_DENY_TASKS denies the task 'billing.charge'",
        ),
        (
            {"mode": "full", "deny_tasks": ("billing.*",)},
            "retry_task",
            {"task_name": "celery.starmap"},
            "Z4J_POLICY_DENY_TASKS: the engine knows no task 'celery.starmap'",
        ),
        (
            {"mode": "full", "allow_tasks": ("shop.*",)},
            "retry_task",
            {"task_name": None},
            "Z4J_POLICY_ALLOW_TASKS is set, and the command names no task",
        ),
        (
            {"deny_tasks": ("a",)},
            "cancel_task",
            {"task_name": ["a"]},
            "Z4J_POLICY_DENY_TASKS is set, and the command's task_name is not a text",
        ),
        ({"allow_queues": ("m*",)}, "retry_task", {}, None),
        ({"deny_queues": ("mail",)}, "retry_task", {}, "Z4J_POLICY_DENY_QUEUES denies the queue 'mail'"),
        (
            {"deny_queues": ("pay",)},
            "retry_task",
            {"queue": ""},
            "Z4J_POLICY_DENY_QUEUES is set, and the command names no queue",
        ),
        ({}, "retry_task", {"filter": {"task_ids": ["x"] * 1000}}, None),
        ({}, "retry_task", {"task_ids": ["x"] * 1001}, "Z4J_POLICY=operate allows 1000 ids at once, not 1001"),
        (
            {},
            "retry_task",
            {"filter": {"task_ids": ["x"] * 1001}},
            "Z4J_POLICY=operate allows 1000 ids at once, not 1001",
        ),
        ({}, "retry_task", {"max": 5000}, "Z4J_POLICY=operate allows 1000 ids at once, not 5000"),
        ({"mode": "full"}, "retry_task", {"max": 5000}, None),
    ],
)
def test_what_is_refused_and_which_setting_is_named(
    policy: dict[str, Any], action: str, more: dict[str, Any], refusal: str | None
) -> None:
    assert judge(Policy(**policy), action, {**RETRY, **more}, knows) == refusal


def test_a_task_that_waits_may_be_cancelled_though_its_name_is_not_registered_any_more() -> None:
    assert judge(Policy(), "cancel_task", {**RETRY, "task_name": "shop.removed"}, knows) is None


def test_who_cannot_look_names_up_leaves_only_that_open() -> None:
    unknown = {**RETRY, "task_name": "os.system"}
    assert judge(Policy(), "retry_task", unknown) is None
    assert judge(Policy(deny_tasks=("os.*",)), "retry_task", unknown) is not None


def test_globs_match_whole_names_in_their_case() -> None:
    policy = Policy(deny_tasks=("pay",))
    assert judge(policy, "retry_task", RETRY, knows) is None
    assert judge(Policy(deny_tasks=("Shop.*",)), "retry_task", RETRY, knows) is None


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Policy(mode="observ"), "policy 'observ' is not known"),
        (Policy(deny_actions=("retry_tsk",)), "there is no action 'retry_tsk', did you mean 'retry_task'"),
        (Policy(allow_actions=("schedule.*",)), "policy_allow_actions: there is no action 'schedule.*'"),
    ],
)
def test_what_cannot_be_meant_is_a_problem(policy: Policy, words: str) -> None:
    assert words in " ".join(policy.problems())
    assert Policy(deny_actions=("*",), deny_tasks=("whatever",)).problems() == []


def test_an_unknown_mode_allows_nothing() -> None:
    assert judge(Policy(mode="observ"), "retry_task", RETRY, knows) is not None


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(mode="full", allow_tasks=()),
        Policy(mode="observe", deny_queues=("a", "b"), allow_actions=("*",)),
    ],
)
def test_it_travels(policy: Policy) -> None:
    assert Policy.from_wire(policy.to_wire()) == policy


@pytest.mark.parametrize("announced", [None, {}, {"mode": "root"}, {"mode": 5}, {"mode": []}])
def test_what_cannot_be_read_is_no_policy(announced: Any) -> None:
    assert Policy.from_wire(announced) is None


def test_what_a_peer_announces_is_bounded() -> None:
    policy = Policy.from_wire({"mode": "full", "deny_tasks": ["x" * 1000, 5, None] * 1000, "deny_queues": "mail"})
    assert policy is not None
    assert len(policy.deny_tasks) <= limits.MAX_LIST
    assert {len(pattern) for pattern in policy.deny_tasks} == {limits.MAX_NAME}
    assert policy.deny_queues == ()


def test_the_cap_fills_again_with_time_and_never_above_its_size() -> None:
    now = [0.0]
    cap = RateCap(60, lambda: now[0])
    assert [cap.take() for _ in range(61)] == [True] * 60 + [False]
    now[0] = 2.0
    assert [cap.take() for _ in range(3)] == [True, True, False]
    now[0] = 1.0
    assert not cap.take(), "a clock that goes back gives nothing"
    now[0] = 10_000.0
    assert [cap.take() for _ in range(61)] == [True] * 60 + [False]


def test_refused_actions_do_not_use_the_cap_up_and_full_has_none() -> None:
    gate = Gate(Policy(deny_actions=("cancel_task",)), lambda: 0.0)
    assert all("DENY_ACTIONS" in (gate.refuses("cancel_task") or "") for _ in range(100))
    assert [gate.refuses("retry_task") for _ in range(61)] == [None] * 60 + [
        "Z4J_POLICY=operate allows 60 commands a minute, try again later"
    ]
    full = Gate(Policy(mode="full"), lambda: 0.0)
    assert not any(full.refuses("retry_task") for _ in range(200))
