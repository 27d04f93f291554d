"""Rights and tokens: the table is the truth, a token survives no change of a single character."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core import access
from protocol.errors import Unauthenticated
from protocol.model import Role

TOKEN_ID, TOKEN = access.make_token(random.Random(7).getrandbits)


def test_the_admin_may_do_everything() -> None:
    # An attempt shows a credential of its own there; no role has that.
    assert [p for p in access.PERMISSIONS if not access.may(Role.ADMIN, p)] == ["git:exchange"]


def test_an_operator_may_do_everything_people_do_but_manage_tokens_and_backups() -> None:
    not_theirs = {p for p in access.PERMISSIONS if not access.may(Role.OPERATOR, p)}

    assert not_theirs == {
        "tokens:manage",
        "backups:manage",
        "rates:write",
        "mesh:join",
        "artifacts:write",
        "progress:read",
        "git:access",
        "git:exchange",
    }


def test_an_agent_may_only_join_the_mesh_bring_files_and_go_on() -> None:
    assert [p for p in access.PERMISSIONS if access.may(Role.AGENT, p)] == [
        "artifacts:write", "progress:read", "git:access", "mesh:join",
    ]  # fmt: skip


def test_a_viewer_changes_nothing() -> None:
    held = {p for p in access.PERMISSIONS if access.may(Role.VIEWER, p)}

    assert all(p.endswith(":read") or p == "sessions:open" for p in held)


def test_a_submitter_reads_submits_and_controls_tasks_but_no_agents_or_endpoints() -> None:
    held = {p for p in access.PERMISSIONS if access.may(Role.SUBMITTER, p)}

    assert {"tasks:read", "tasks:submit", "tasks:control"} <= held
    assert not held & {"agents:control", "endpoints:write", "tokens:manage", "mesh:join"}


def test_a_permission_that_is_not_in_the_table_is_nobodys() -> None:
    assert access.roles_with("tasks:burn") == ()


def test_roles_with_a_permission_come_in_the_order_of_the_roles() -> None:
    assert access.roles_with("tasks:submit") == ("admin", "operator", "submitter")


def test_a_token_has_a_prefix_an_id_and_256_secret_bits() -> None:
    assert re.fullmatch(r"acm_[0-9a-z]{12}_[0-9A-Za-z]{49}", TOKEN)
    assert access.token_id(TOKEN) == TOKEN_ID


@given(st.integers(0, 2**60 - 1), st.integers(0, 2**256 - 1))
def test_every_token_that_can_be_made_can_be_read(low: int, high: int) -> None:
    bits = iter((low, high))
    made_id, token = access.make_token(lambda _count: next(bits))

    assert access.token_id(token) == made_id


@given(st.integers(len("acm_"), len(TOKEN) - 1), st.characters(codec="ascii"))
def test_one_wrong_character_is_told_from_an_unknown_token(place: int, character: str) -> None:
    wrong = TOKEN[:place] + character + TOKEN[place + 1 :]
    if wrong == TOKEN:
        return

    with pytest.raises(Unauthenticated):
        access.token_id(wrong)


@pytest.mark.parametrize(
    "token, why",
    [
        ("", "this is not a token of AgentCom: those start with 'acm_'"),
        ("ghp_123", "this is not a token of AgentCom: those start with 'acm_'"),
        (TOKEN[:-1], "the token is cut off or has a character too many"),
        (TOKEN + "x", "the token is cut off or has a character too many"),
        (TOKEN + "\n", "the token is cut off or has a character too many"),
        (TOKEN[:-1] + ("a" if TOKEN[-1] != "a" else "b"), "the token is mistyped: its check sum does not fit"),
    ],
)
def test_what_is_wrong_with_a_token_is_said(token: str, why: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        access.token_id(token)

    assert caught.value.why == why


def test_only_the_very_token_matches_its_digest() -> None:
    kept = access.digest(TOKEN)

    assert len(kept) == 32
    assert access.matches(TOKEN, kept)
    assert not access.matches(TOKEN[:-1], kept)
    assert not access.matches("\ud800", kept)
    assert TOKEN.encode() not in kept
