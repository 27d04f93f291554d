"""The rules of the clean room: who has to prove work, which class waits for it, and what follows from silence."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.core.explain import waiting
from hub.core.fleet import Fleet
from hub.core.matching import match, reasons_against
from hub.core.proving import (
    MAX_PROOFS,
    Machine,
    Rooms,
    after_silence,
    is_one_able,
    is_wanted,
    proof_class,
    room_problems,
    rooms_of,
)
from hub.core.routing import (
    PROOF,
    class_afresh,
    class_after,
    class_of_work,
    class_returned,
    is_proof,
    requirements_of,
    route,
)
from protocol.checks import CheckJudge, CheckTestPasses
from protocol.choice import CleanRoom
from protocol.model import AgentState, Budget, Context, TaskResult, TaskSpec, TaskState

SPEC: Final = TaskSpec(
    prompt="repair it",
    executor="agent",
    verification=(CheckTestPasses(command="pytest -q"),),
    needs=("gpu", "artifacts", "checks:judge"),  # of these a proof needs only the first
    context=Context(repo="https://git.example.org/a.git"),
    budget=Budget(usd=1.0, seconds=60.0),
    project="site",
)
TEXT: Final = route(SPEC, by="me")[1].text
JUDGE: Final = CheckJudge(question="Is it good?")
PROOF_TEXT: Final = proof_class(TEXT, "a", "one", is_must=False)


def fleet(*hosts: str) -> Fleet:
    """An agent of the same name on each of these machines, which can prove."""
    made = Fleet()
    for host in hosts:
        agent = made.agent(host)
        agent.host, agent.state = host, AgentState.IDLE
        agent.capabilities = frozenset({f"executor:{PROOF}", "gpu", "executor:shell"})
        made.changed(agent)
    return made


def test_the_class_of_a_proof_says_what_it_needs_and_whose_work_it_is() -> None:
    proof = requirements_of(PROOF_TEXT)

    assert (proof.executor, proof.needs_model, proof.needs) == (PROOF, False, ("gpu",))
    assert (proof.by, proof.project, proof.cap) == ("me", "site", (Budget().tokens, None, 60_000))
    assert proof.proof is not None
    assert (proof.proof.agent, proof.proof.host, proof.proof.work, proof.proof.must) == ("a", "one", TEXT, False)
    assert class_of_work(PROOF_TEXT) == TEXT
    assert class_of_work(TEXT) == TEXT


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_text_of_a_task_makes_its_class_look_like_one_of_a_proof(model: str, need: str) -> None:
    plain = replace(requirements_of(TEXT), model=f'{model}"proof":{need}', needs=(f'"proof":{need}',)).text

    assert not is_proof(plain)
    assert is_proof(proof_class(plain, "a", "one", is_must=True))
    assert class_of_work(proof_class(plain, "a", "one", is_must=True)) == plain


def test_a_task_that_is_put_back_begins_with_its_work() -> None:
    assert class_afresh(PROOF_TEXT) == class_afresh(TEXT)
    assert class_returned(PROOF_TEXT) == class_returned(TEXT)
    again = requirements_of(class_after(PROOF_TEXT, 0, "agent:b"))
    assert again.proof is not None
    assert again.avoid == ("agent:b",)


def test_all_work_on_one_machine_is_placed_and_learnt_as_one() -> None:
    other = proof_class(replace(requirements_of(TEXT), model="m").text, "b", "one", is_must=True)

    assert requirements_of(PROOF_TEXT).place == requirements_of(other).place
    assert requirements_of(PROOF_TEXT).kind == requirements_of(other).kind
    assert '"proof":' not in requirements_of(other).kind


def test_only_another_machine_proves() -> None:
    both, requirements = fleet("one", "two"), requirements_of(PROOF_TEXT).place

    assert [way.agent for way in match(both, requirements).ways] == ["two"]
    assert reasons_against(both.agents["one"], requirements) == [
        "is on the machine that did the work, and another one has to prove it"
    ]
    summary, unblock, _ = waiting(fleet("one"), requirements)
    assert summary.startswith("its checks passed on one, and another machine has to prove it: no agent")
    assert unblock[0].startswith("start a sidecar on a machine other than one")
    assert waiting(both, requirements)[0].endswith("it is about to be assigned")


def test_work_that_only_a_judge_has_looked_at_is_proven_by_nobody() -> None:
    rooms = Rooms(machines=(Machine("two", frozenset({"gpu"})),))
    result = TaskResult(execution_ok=True, verified=True, commit="c" * 40, pushed=True)
    judged, both = replace(SPEC, verification=(JUDGE,)), replace(SPEC, verification=(JUDGE, *SPEC.verification))

    assert not is_wanted(judged, result, requirements_of(TEXT), "one", rooms)
    assert not is_wanted(judged, result, requirements_of(TEXT), "one", replace(rooms, default=CleanRoom.ALWAYS))
    assert is_wanted(both, result, requirements_of(TEXT), "one", rooms)


def test_who_is_able_to_prove_can_be_given_a_proof() -> None:
    both, requirements = fleet("one", "two"), requirements_of(PROOF_TEXT).place
    other = both.agents["two"]

    assert is_one_able(both, requirements, lambda _agent: False)
    other.state = AgentState.BLOCKED
    assert not is_one_able(both, requirements, lambda _agent: False)
    other.state, other.cramped = AgentState.WORKING, "has little room on its disk"
    assert not is_one_able(both, requirements, lambda _agent: False)
    other.state, other.cramped = AgentState.OFFLINE, ""
    assert not is_one_able(both, requirements, lambda agent: agent.name == "one")
    assert is_one_able(both, requirements, lambda agent: agent.name == "two")


def test_machines_are_those_that_are_there_and_take_work() -> None:
    everybody = fleet("one", "two", "three", "four", "five")
    everybody.agents["two"].state = AgentState.OFFLINE
    everybody.agents["three"].is_draining = True
    everybody.agents["four"].is_leaving = True
    everybody.agents["five"].capabilities = frozenset({"executor:shell"})

    assert {machine.host for machine in rooms_of(everybody, CleanRoom.AUTO).machines} == {"one"}
    found = rooms_of(everybody, CleanRoom.AUTO, lambda agent: agent.name == "two")
    assert {machine.host for machine in found.machines} == {"one", "two"}
    assert not rooms_of(everybody, CleanRoom.AUTO).beside("one", ())
    assert found.beside("one", ("gpu",))
    assert not Rooms(machines=(Machine("two", frozenset()),)).beside("one", ("gpu",))


def test_silence_ends() -> None:
    assert [after_silence(n, is_must=False) for n in range(1, MAX_PROOFS + 1)] == [
        *[TaskState.QUEUED] * (MAX_PROOFS - 1),
        TaskState.COMPLETED,
    ]
    assert after_silence(MAX_PROOFS, is_must=True) is TaskState.WAITING


@pytest.mark.parametrize(
    "spec, words",
    [
        (TaskSpec(command="x", clean_room=CleanRoom.ALWAYS), ["needs checks", "needs a place"]),
        (replace(SPEC, clean_room=CleanRoom.ALWAYS, context=Context()), ["needs a place"]),
        (replace(SPEC, clean_room=CleanRoom.ALWAYS), []),
        (replace(SPEC, clean_room=CleanRoom.ALWAYS, verification=(JUDGE,)), ["needs checks"]),
        (replace(SPEC, clean_room=CleanRoom.ALWAYS, verification=(*SPEC.verification, JUDGE)), []),
        (TaskSpec(command="x", clean_room=CleanRoom.AUTO), []),
        (TaskSpec(command="x"), []),
    ],
)
def test_who_insists_on_what_cannot_be_is_told(spec: TaskSpec, words: list[str]) -> None:
    found = [problem.problem for problem in room_problems(spec)]

    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))
