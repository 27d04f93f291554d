"""Alerts through Apprise: mail to a server that speaks SMTP, what people are told when it does not arrive, and where
none may go: 0.0.0.0 stands for all such addresses here, as it leads to this machine if nobody stops it.
"""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.running_hub import RunningHub, running_hub
from tests.support.serving import served
from tests.support.smtp_server import MailServer, mail_server


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


async def refused(hub: RunningHub, url: str) -> tuple[bool, str]:
    told = await (await hub.ask("POST", f"/api/v1/notifiers/{await add(hub, url)}/test")).json()
    return told["delivered"], told["problem"]


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "user:pw@169.254.169.254"]
)
async def test_an_address_of_the_machines_own_network_services_is_refused_at_once(hub: RunningHub, host: str) -> None:
    made = await hub.ask("POST", "/api/v1/notifiers", json={"kind": "apprise", "url": f"json://{host}/latest"})

    assert made.status == 422
    assert "own network services" in await made.text()


async def test_a_name_that_leads_there_is_refused_when_it_is_looked_up(hub: RunningHub, mails: MailServer) -> None:
    assert await refused(hub, f"json://0x0:{mails.port}/") == (False, "no notice may go to 0.0.0.0")


async def test_a_name_that_a_datagram_goes_to_is_looked_up_before(hub: RunningHub) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as log:
        log.bind(("0.0.0.0", 0))  # noqa: S104 - where the name leads
        log.setblocking(False)

        assert await refused(hub, f"rsyslog://0x0:{log.getsockname()[1]}/") == (False, "no notice may go to 0.0.0.0")
        with pytest.raises(BlockingIOError):
            log.recv(1)


async def test_an_option_that_leads_there_is_refused(hub: RunningHub, mails: MailServer) -> None:
    address = f"mailto://night:s3cret@example.org:{mails.port}/?smtp=0.0.0.0&to=night@example.org&mode=insecure"

    assert await refused(hub, address) == (False, "no notice may go to 0.0.0.0")
    assert mails.mails == []


async def test_a_redirect_that_leads_there_is_refused(hub: RunningHub) -> None:
    asked = list[str]()

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.host.partition(":")[0])
        return web.Response(status=307, headers={"Location": f"http://0.0.0.0:{request.url.port}/secrets"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with served(app, host="0.0.0.0") as url:  # noqa: S104 - where the redirect would lead
        told = await refused(hub, f"{url.replace('http', 'json')}/")

    assert told == (False, "no notice may go to 0.0.0.0")
    assert asked == ["127.0.0.1"]
