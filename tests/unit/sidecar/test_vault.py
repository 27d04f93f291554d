"""What a sidecar makes of a hub's answer when it asks for the secrets of an attempt."""

import asyncio
from collections.abc import Callable

import pytest

from protocol.errors import WorkFailed
from protocol.keystore import SecretUse
from protocol.messages import AskSecrets, Message, Secrets
from protocol.model import AttemptId, FailureClass
from protocol.redaction import Redactor
from sidecar.errors import LeaseOver, SecretMissing, SecretsUnheard, SecretUnreadable, failure_of
from sidecar.vault import HubVault, NoVault

ATTEMPT = AttemptId("One", 7, "01j0000000000000000000000a", 3)
USES = (SecretUse(name="TOKEN"), SecretUse(name="KEY", env="DEPLOY_KEY"))
VALUES = {"TOKEN": "hunter2-hunter2", "KEY": "correct-horse"}


class Hub:
    """The other end of the line: hears questions, and answers as the test says."""

    def __init__(self, reply: Callable[[int], Secrets | None], patience_s: float = 60.0) -> None:
        self.asked: list[Message] = []
        self.redactor = Redactor()
        self.is_over = False
        self._reply = reply
        self.vault = HubVault(self._hear, self.redactor, self._check, ask_s=0.01, patience_s=patience_s)

    def _check(self, attempt: AttemptId) -> None:
        if self.is_over:
            raise LeaseOver(attempt)

    def _hear(self, message: Message) -> None:
        self.asked.append(message)
        if (reply := self._reply(len(self.asked))) is not None:
            self.vault.heard(reply)


def given(_asked: int) -> Secrets:
    return Secrets(attempt=ATTEMPT, values=VALUES)


async def test_secrets_come_under_the_names_that_the_task_wants_and_are_hidden_until_they_are_forgotten() -> None:
    hub = Hub(given)

    assert await hub.vault.variables(ATTEMPT, USES) == {"TOKEN": "hunter2-hunter2", "DEPLOY_KEY": "correct-horse"}
    assert hub.asked == [AskSecrets(attempt=ATTEMPT)]
    assert hub.redactor.text("it is hunter2-hunter2 or aHVudGVyMi1odW50ZXIy") == "it is [secret] or [secret]"
    hub.redactor.forget(ATTEMPT)
    assert hub.redactor.text("it is hunter2-hunter2") == "it is hunter2-hunter2"


async def test_a_task_without_secrets_asks_nothing() -> None:
    hub = Hub(given)

    assert await hub.vault.variables(ATTEMPT, ()) == {}
    assert await NoVault().variables(ATTEMPT, ()) == {}
    assert hub.asked == []


async def test_a_question_or_an_answer_that_is_lost_is_asked_again() -> None:
    hub = Hub(lambda asked: given(asked) if asked == 3 else None)

    assert len(await hub.vault.variables(ATTEMPT, USES)) == 2
    assert len(hub.asked) == 3
    hub.vault.heard(given(1))  # an answer that comes late, or twice, is nobody's


async def test_a_hub_that_never_answers_gives_the_attempt_back() -> None:
    with pytest.raises(SecretsUnheard, match=r"could not be had from the hub within 0\.2 s"):
        await Hub(lambda _asked: None, patience_s=0.2).vault.variables(ATTEMPT, USES)
    with pytest.raises(SecretsUnheard):
        await NoVault().variables(ATTEMPT, USES)


async def test_an_attempt_that_does_not_count_any_more_gets_none() -> None:
    stale = Hub(lambda _asked: Secrets(attempt=ATTEMPT, code="stale", detail="another attempt has it"))
    over = Hub(given)
    over.is_over = True

    for hub in (stale, over):
        with pytest.raises(LeaseOver):
            await hub.vault.variables(ATTEMPT, USES)
        assert hub.redactor.text("hunter2-hunter2") == "hunter2-hunter2"
    assert over.asked == []


@pytest.mark.parametrize("kind, failure", [(SecretMissing, FailureClass.INPUT), (SecretUnreadable, FailureClass.INFRA)])
async def test_a_refusal_ends_the_work_with_the_words_of_the_hub(kind: type[WorkFailed], failure: FailureClass) -> None:
    hub = Hub(lambda _asked: Secrets(attempt=ATTEMPT, code=kind.code, detail="secret KEY is not kept"))

    with pytest.raises(kind, match=r"^secret KEY is not kept$") as caught:
        await hub.vault.variables(ATTEMPT, USES)
    assert failure_of(caught.value) == failure


async def test_an_answer_that_lacks_a_secret_is_none() -> None:
    hub = Hub(lambda _asked: Secrets(attempt=ATTEMPT, values={"TOKEN": "hunter2-hunter2"}))

    with pytest.raises(SecretMissing, match="the hub has not given KEY"):
        await hub.vault.variables(ATTEMPT, USES)


async def test_work_that_is_stopped_while_it_asks_leaves_nothing_behind() -> None:
    hub = Hub(lambda _asked: None)
    asking = asyncio.create_task(hub.vault.variables(ATTEMPT, USES))
    await asyncio.sleep(0)
    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    hub.vault.heard(given(1))
    assert hub.redactor.text("hunter2-hunter2") == "hunter2-hunter2"
