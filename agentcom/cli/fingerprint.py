"""``agentcom fingerprint``: the hash by which machines know the hub again."""

import asyncio
import contextlib
from typing import Final
from urllib.parse import urlsplit

import click

from agentcom import settings
from agentcom.cli import endings, output
from protocol.errors import HubUnreachable, NotFound
from protocol.pinning import MAX_ANSWER_BYTES, authority_request, blind_context, ca_hash, first_certificate

ASK_S: Final = 10.0


@click.command(name="fingerprint")
@click.option("--hub", metavar="URL", help="Address of the hub.")
@click.option("--data-dir", metavar="DIR", help="Data directory of the hub on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; errors too, on stderr.")
def command(hub: str | None, data_dir: str | None, as_json: bool) -> int:  # noqa: FBT001 - click calls it
    """Print the SHA-256 of the hub's authority.

    \b
    What it prints on the hub's machine is what others have to see. Give it to
    them as AGENTCOM_CA_HASH, and to sidecars as --ca-hash. Needs no token.
    """  # noqa: D301 - click wants the backspace character itself
    found = settings.load({"hub": hub, "data_dir": data_dir})
    url = found.hub.partition(",")[0]
    pem = found.trust.pem or asyncio.run(_asked(url))
    if as_json:
        output.say_json({"hub": url, "ca_hash": ca_hash(pem), "ca_pem": pem})
    else:
        click.echo(ca_hash(pem))
    return endings.DONE


async def _asked(url: str) -> str:
    """What the hub says of itself: nobody vouches for it.

    Raises:
        HubUnreachable: nobody answers, or not with TLS.
        NotFound: it has no authority of its own.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise NotFound("authority of a hub that speaks plain HTTP:", url)
    answer = b""
    try:
        async with asyncio.timeout(ASK_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=blind_context())
            with contextlib.closing(writer):
                writer.write(authority_request(parts.netloc))
                while len(answer) <= MAX_ANSWER_BYTES and (piece := await reader.read(MAX_ANSWER_BYTES)):
                    answer += piece
    except OSError as exc:
        raise HubUnreachable(url, str(exc) or type(exc).__name__) from exc
    if b"BEGIN CERTIFICATE" not in answer:
        raise NotFound("authority of its own at the hub", url)
    return first_certificate(answer.decode("ascii", "replace"))
