"""Alerts through Apprise: mail to a server that speaks SMTP, and what people are told when it does not arrive."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.running_hub import RunningHub, running_hub
from tests.support.smtp_server import MailServer, mail_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Apprise loads whatever else it finds installed


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    async with mail_server() as made:
        yield made


async def add(hub: RunningHub, url: str) -> str:
    made = await hub.ask("POST", "/api/v1/notifiers", json={"kind": "apprise", "url": url})
    assert made.status == 201, await made.text()
    assert "s3cret" not in await made.text()
    return str((await made.json())["id"])


async def test_an_alert_comes_as_a_mail_with_its_summary(hub: RunningHub, mails: MailServer) -> None:
    address = f"mailto://night:s3cret@127.0.0.1:{mails.port}/?from=hub@example.org&to=night@example.org&mode=insecure"
    tested = await hub.ask("POST", f"/api/v1/notifiers/{await add(hub, address)}/test")

    assert await tested.json() == {"delivered": True, "problem": ""}
    [mail] = mails.mails
    assert mail["To"] == "night@example.org"
    assert mail["Subject"] == "AgentCom: a test"
    body = mail.get_body(("plain", "html"))
    assert body is not None
    assert "This is a test of AgentCom's alerts" in body.get_content()


async def test_a_mail_that_nobody_takes_is_not_delivered_and_no_secret_is_told(
    hub: RunningHub, mails: MailServer
) -> None:
    mails.refuses = True
    address = f"mailto://night:s3cret@127.0.0.1:{mails.port}/?from=hub@example.org&to=night@example.org&mode=insecure"
    tested = await (await hub.ask("POST", f"/api/v1/notifiers/{await add(hub, address)}/test")).json()

    assert (tested["delivered"], "s3cret" in tested["problem"], mails.mails) == (False, False, [])


async def test_an_address_of_no_known_kind_is_told_to_be_one(hub: RunningHub) -> None:
    tested = await (await hub.ask("POST", f"/api/v1/notifiers/{await add(hub, 'carrier-pigeon://loft')}/test")).json()

    assert tested == {"delivered": False, "problem": "Apprise does not know such an address"}
