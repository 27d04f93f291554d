import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import structlog
from aiohttp import web

from protocol.errors import BadInput, EndpointBusy, EndpointRefused, WorkFailed
from protocol.model import EndpointKind, EndpointReport, Residency
from sidecar.llm.base import ChatMessage, ChatRequest
from sidecar.llm.config import USUAL_MODELS
from sidecar.llm.endpoints import Endpoints, EndpointSettings
from tests.support.ollama_server import Model, OllamaServer, Reply
from tests.support.serving import served


async def test_what_answers_is_reported_and_what_does_not_is_in_trouble(ollama: OllamaServer, llmock: object) -> None:
    ollama.models = [Model("qwen3:8b"), Model("gemma:2b")]
    claude_url = llmock.base_url("anthropic")  # type: ignore[attr-defined]  # the fixture of the server's own package
    endpoints = Endpoints(
        [
            EndpointSettings("box", EndpointKind.OLLAMA, ollama.url),
            EndpointSettings("gone", EndpointKind.OLLAMA, "http://127.0.0.1:9"),
            EndpointSettings("claude", EndpointKind.ANTHROPIC, claude_url, api_key="sk-x"),
            EndpointSettings("keyless", EndpointKind.ANTHROPIC, "https://api.anthropic.com"),
        ]
    )

    box, claude = await endpoints.discover()

    assert (box.id, box.local, box.default_model) == ("box", True, "qwen3:8b")
    assert [model.name for model in box.models] == ["qwen3:8b", "gemma:2b"]
    assert (claude.id, claude.local, claude.default_model) == ("claude", False, USUAL_MODELS[EndpointKind.ANTHROPIC])
    assert claude.models[0].residency is Residency.WARM
    assert [(trouble.endpoint, trouble.refusals) for trouble in endpoints.troubles] == [("gone", 0), ("keyless", 0)]
    assert endpoints.troubles[1].problem == "it has no API key"
    await endpoints.close()


async def test_a_place_that_nobody_has_named_is_in_no_trouble_before_a_server_was_there(ollama: OllamaServer) -> None:
    place = ollama.url
    endpoints = Endpoints([EndpointSettings("ollama", EndpointKind.OLLAMA, place, guessed=True)])
    await ollama.stop()
    before = (await endpoints.discover(), endpoints.troubles)
    await ollama.start()
    here = [report.id for report in await endpoints.discover()]
    await ollama.stop()
    after = (await endpoints.discover(), [trouble.endpoint for trouble in endpoints.troubles])
    await endpoints.close()

    assert before == ((), ())
    assert here == ["ollama"]
    assert after == ((), ["ollama"])


async def test_work_that_is_refused_is_trouble_until_work_succeeds(ollama: OllamaServer) -> None:
    ollama.script = [Reply(status=503, error="busy", when="now", repeat=True), Reply("well", repeat=True)]
    endpoints, told = (
        Endpoints([EndpointSettings("box", EndpointKind.OLLAMA, ollama.url, default_model="qwen3:8b")]),
        [],
    )
    endpoints.on_trouble = lambda: told.append(tuple(t.refusals for t in endpoints.troubles))
    provider = endpoints.provider("box")
    for _ in range(2):
        with pytest.raises(EndpointBusy):
            await provider.chat(ChatRequest((ChatMessage("user", "now"),)))
    await endpoints.discover()
    in_between = [(t.endpoint, t.refusals, t.added, t.problem) for t in endpoints.troubles]
    await provider.chat(ChatRequest((ChatMessage("user", "later"),)))
    await endpoints.close()

    assert in_between == [("box", 2, False, "busy")]
    assert told == [(1,), (2,), ()]


async def test_a_change_between_up_and_down_is_logged_once(ollama: OllamaServer) -> None:
    endpoints = Endpoints([EndpointSettings("box", EndpointKind.OLLAMA, ollama.url)])
    with structlog.testing.capture_logs() as logged:
        await endpoints.discover()
        await endpoints.discover()
        await ollama.stop()
        await endpoints.discover()
        await endpoints.discover()

    assert [line["event"] for line in logged] == ["endpoint_up", "endpoint_down"]
    await endpoints.close()


async def test_the_models_of_an_openai_server_are_listed(llmock: object) -> None:
    url = llmock.base_url("openai")  # type: ignore[attr-defined]  # the fixture of the server's own package
    endpoints = Endpoints([EndpointSettings("vllm", EndpointKind.OPENAI, url, default_model="gpt-5")])

    (report,) = await endpoints.discover()

    assert report.models
    assert report.default_model == "gpt-5"
    await endpoints.close()


async def test_a_model_on_its_way_into_memory_is_not_taken_for_one_that_is_there(ollama: OllamaServer) -> None:
    ollama.script, ollama.memory.hold_loads = [Reply("here", repeat=True)], asyncio.Event()
    endpoints = Endpoints([EndpointSettings("box", EndpointKind.OLLAMA, ollama.url)])
    (before,) = await endpoints.discover()
    request = ChatRequest((ChatMessage("user", "hello"),), model="qwen3:8b")
    answering = asyncio.create_task(endpoints.provider("box").chat(request))
    async with asyncio.timeout(30):
        await ollama.until(lambda: bool(ollama.memory.residents))
        (meanwhile,) = await endpoints.discover()
        ollama.memory.hold_loads.set()
        await answering
    (after,) = await endpoints.discover()
    await endpoints.close()

    states = [report.models[0].residency for report in (before, meanwhile, after)]
    assert states == [Residency.COLD, Residency.LOADING, Residency.WARM]


def test_an_endpoint_that_is_not_known_is_refused_with_those_that_are() -> None:
    endpoints = Endpoints([EndpointSettings("box", EndpointKind.OLLAMA, "http://127.0.0.1:1")])

    with pytest.raises(EndpointRefused, match="endpoint nas: this sidecar has no such endpoint; it has box"):
        endpoints.provider("nas")


def test_two_endpoints_with_one_id_are_refused() -> None:
    one = EndpointSettings("box", EndpointKind.OLLAMA, "http://127.0.0.1:1")

    with pytest.raises(BadInput, match="box: two endpoints have this id"):
        Endpoints([one, one])


async def test_one_endpoint_has_one_provider_until_it_is_closed() -> None:
    endpoints = Endpoints([EndpointSettings("box", EndpointKind.OLLAMA, "http://127.0.0.1:1")])
    first = endpoints.provider("box")

    assert endpoints.provider("box") is first
    await endpoints.close()
    assert endpoints.provider("box") is not first
    await endpoints.close()


def test_no_client_library_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, sidecar.llm.endpoints, sidecar.executors;"
        "print([m for m in ('ollama', 'anthropic', 'openai', 'genai_prices', 'httpx', 'httpx2') if m in sys.modules])"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


# --- endpoints that people have added at the hub ----------------------------------------------------------------------

CANARY = "sk-canary-0123456789"


class Stranger:
    """A server that somebody else runs: it keeps what it is sent, and answers nothing that anybody could use."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.url, self.status, self.tells_back = "", 418, False

    async def hear(self, request: web.Request) -> web.Response:
        self.heard.append(f"{request.method} {request.path_qs}\n{dict(request.headers)}\n{await request.text()}")
        shown = [value for name, value in request.headers.items() if "key" in name.lower() or name == "Authorization"]
        if self.tells_back:
            return web.json_response({"error": {"message": f"who is {shown}?"}}, status=self.status)
        return web.Response(status=self.status)


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    server, app = Stranger(), web.Application()
    app.router.add_route("*", "/{path:.*}", server.hear)
    async with served(app) as server.url:
        yield server


def added(kind: EndpointKind, url: str, name: str = "added", *, local: bool = False) -> EndpointReport:
    return EndpointReport(id=name, kind=kind, url=url, local=local, default_model="m")


async def ask(endpoints: Endpoints, name: str = "added") -> None:
    with pytest.raises(WorkFailed):
        await endpoints.provider(name).chat(ChatRequest((ChatMessage("user", "hello"),), timeout_s=5.0))


@pytest.mark.parametrize("kind", [EndpointKind.OLLAMA, EndpointKind.OPENAI])
async def test_no_key_of_ours_goes_to_an_address_that_a_message_names(
    stranger: Stranger, kind: EndpointKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OLLAMA_API_KEY", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID",
                 "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):  # fmt: skip
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Gateway: {CANARY}")
    own = EndpointSettings("mine", kind, "http://127.0.0.1:9/v1", api_key=CANARY)
    endpoints = Endpoints([own])
    endpoints.adopt(added(kind, stranger.url))
    await ask(endpoints)
    await endpoints.close()

    assert stranger.heard
    assert CANARY not in "".join(stranger.heard)


@pytest.mark.parametrize("kind", [EndpointKind.ANTHROPIC, EndpointKind.GEMINI])
async def test_a_hosted_service_at_a_strange_address_is_refused_unasked(stranger: Stranger, kind: EndpointKind) -> None:
    own = EndpointSettings("mine", kind, "https://api.example.org", api_key=CANARY)
    endpoints = Endpoints([own])

    with pytest.raises(BadInput, match="no API key for this address"):
        endpoints.adopt(added(kind, stranger.url))
    with pytest.raises(EndpointRefused):
        endpoints.provider("added")
    assert stranger.heard == []


@pytest.mark.parametrize("same", ["{url}", "{url}/"])
async def test_an_added_endpoint_at_an_address_of_ours_is_asked_with_our_key(stranger: Stranger, same: str) -> None:
    endpoints = Endpoints([EndpointSettings("mine", EndpointKind.OPENAI, stranger.url, api_key=CANARY)])
    endpoints.adopt(added(EndpointKind.OPENAI, same.format(url=stranger.url)))
    await ask(endpoints)
    await endpoints.close()

    assert f"Bearer {CANARY}" in stranger.heard[0]


async def test_an_address_that_only_begins_like_ours_gets_no_key(stranger: Stranger) -> None:
    endpoints = Endpoints([EndpointSettings("mine", EndpointKind.OPENAI, stranger.url, api_key=CANARY)])
    endpoints.adopt(added(EndpointKind.OPENAI, f"{stranger.url}/proxy"))
    await ask(endpoints)
    await endpoints.close()

    assert CANARY not in "".join(stranger.heard)


async def test_our_own_endpoint_is_not_moved_by_one_of_the_same_name(stranger: Stranger) -> None:
    endpoints = Endpoints([EndpointSettings("box", EndpointKind.OLLAMA, "http://127.0.0.1:9", default_model="m")])
    endpoints.adopt(added(EndpointKind.OLLAMA, stranger.url, "box"))
    await ask(endpoints, "box")
    await endpoints.close()

    assert stranger.heard == []


async def test_an_added_endpoint_that_has_moved_is_asked_where_it_is_now(ollama: OllamaServer) -> None:
    endpoints = Endpoints([])
    endpoints.adopt(added(EndpointKind.OLLAMA, "http://127.0.0.1:9", local=True))
    before = endpoints.provider("added")
    endpoints.adopt(added(EndpointKind.OLLAMA, "http://127.0.0.1:9", local=True))
    unmoved = endpoints.provider("added")
    endpoints.adopt(added(EndpointKind.OLLAMA, ollama.url, local=True))
    ollama.models, ollama.script = [Model("m:latest")], [Reply(text="here")]
    reply = await endpoints.provider("added").chat(ChatRequest((ChatMessage("user", "where?"),)))
    await endpoints.close()

    assert before is unmoved
    assert reply.text == "here"


async def test_what_is_added_is_not_reported_as_found_here(ollama: OllamaServer) -> None:
    endpoints = Endpoints([])
    endpoints.adopt(added(EndpointKind.OLLAMA, ollama.url))

    assert await endpoints.discover() == ()


@pytest.mark.parametrize(
    "kind, url, why",
    [
        (EndpointKind.GEMINI, "http://127.0.0.1:9", "no API key for this address"),
        (EndpointKind.OLLAMA, "file:///etc/passwd", "is no http or https address"),
        (EndpointKind.OLLAMA, "http://exa mple:80", "is no http or https address"),
        (EndpointKind.OPENAI, "http://user:secret@127.0.0.1:9", "no user or password"),
    ],
)
def test_an_added_endpoint_that_cannot_be_used_is_refused(kind: EndpointKind, url: str, why: str) -> None:
    with pytest.raises(BadInput, match=why) as caught:
        Endpoints([]).adopt(added(kind, url))

    assert "secret" not in str(caught.value)


async def test_a_server_that_has_no_time_to_list_its_models_has_refused_no_work(ollama: OllamaServer) -> None:
    endpoints = Endpoints([EndpointSettings("box", EndpointKind.OLLAMA, ollama.url)])
    ollama.listing_status = 503
    unseen = (await endpoints.discover(), [trouble.refusals for trouble in endpoints.troubles])
    ollama.listing_status = 200
    (well,) = await endpoints.discover()
    ollama.listing_status = 429
    (busy,) = await endpoints.discover()
    troubles = endpoints.troubles
    await endpoints.close()

    assert unseen == ((), [0])  # nobody knows what it has
    assert (busy.models, troubles) == (well.models, ())
    assert "answers 429" in busy.remark


@pytest.mark.parametrize("kind", [EndpointKind.ANTHROPIC, EndpointKind.OPENAI, EndpointKind.GEMINI])
async def test_a_key_that_a_service_tells_back_in_its_errors_is_not_told_to_the_hub(
    stranger: Stranger, kind: EndpointKind
) -> None:
    stranger.status, stranger.tells_back = 401, True
    own = EndpointSettings("mine", kind, stranger.url, api_key=CANARY, default_model="m")
    endpoints = Endpoints([own])
    reports = await endpoints.discover()
    seen = [*endpoints.troubles]
    await ask(endpoints, "mine")
    seen += endpoints.troubles
    await endpoints.close()

    assert CANARY in "".join(stranger.heard)
    assert seen
    assert CANARY not in f"{reports} {seen}"
    assert "[secret]" in f"{reports} {seen}"
