"""JSON-RPC 2.0 with a program, one message a line: questions both ways, and news that nobody answers.

Trusts nothing that comes: lines that are no messages are passed over and counted, a line has a greatest length, and so
has the number of questions that are worked on at a time. Knows no method; callers: ``sidecar/acp/running.py`` feeds it,
``sidecar/executors/acp.py`` asks. https://www.jsonrpc.org/specification.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from protocol.errors import BadInput, StorageFull, WorkFailed
from sidecar.errors import AgentGarbled, AgentRefused, AgentSilent

MAX_LINE_CHARS: Final = 16 << 20
"""A file that the agent writes or reads comes in one line."""
MAX_OPEN: Final = 64
"""Questions of the agent that are worked on at a time; one more is refused."""
MAX_OPEN_CHARS: Final = 32 << 20
"""Of all these questions together: each is held for as long as it is worked on."""
MAX_STRANGE: Final = 1_000
"""Lines that are no messages: some agents, and what they start, print what belongs on stderr."""

INVALID_PARAMS, INTERNAL, NO_METHOD, BUSY = -32602, -32603, -32601, -32000

Params = Mapping[str, Any]
Answer = Callable[[str, Params], Awaitable[Mapping[str, Any]]]
Hear = Callable[[str, Params], None]


class NoMethod(Exception):
    """We offer no such method."""


class Peer:
    """Our end of the conversation.

    Args:
        write: takes bytes that go to the program.
        answer: answers a question of the program; what it raises is told as an error, what is no failure of the work
            (:class:`sidecar.errors.LeaseOver`) ends the conversation.
        hear: is told news.
        strange: is given lines that are no messages.

    Attributes:
        heard_at: when the program last said something, by the loop's clock.
        is_busy: whether a question of the program is being worked on.
    """

    def __init__(
        self, write: Callable[[bytes], None], answer: Answer, hear: Hear, strange: Callable[[str], None]
    ) -> None:
        self._write, self._answer, self._hear, self._strange = write, answer, hear, strange
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._at_work: dict[asyncio.Task[None], int] = {}
        """Questions that are worked on, with their lengths."""
        self._parts: list[str] = []
        self._length = self._strangers = 0
        self._broken: BaseException | None = None
        self.heard_at = self._loop.time()

    @property
    def is_busy(self) -> bool:
        """Whether a question of the program is being worked on."""
        return bool(self._at_work)

    # --- from the program -------------------------------------------------------------------------------------------

    def feed(self, text: str) -> None:
        """Take what the program has said next.

        Raises:
            AgentGarbled: it does not speak this protocol.
        """
        self.heard_at = self._loop.time()
        *lines, rest = text.split("\n")
        for line in lines:
            whole = "".join((*self._parts, line))
            self._parts, self._length = [], 0
            self._take(whole)
        self._parts.append(rest)
        self._length += len(rest)
        if self._length > MAX_LINE_CHARS:
            raise AgentGarbled(f"a line of more than {MAX_LINE_CHARS >> 20} MiB")

    def _take(self, line: str) -> None:
        if not line.strip() or self._broken is not None:
            return
        try:
            message = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            message = None
        if isinstance(message, dict) and isinstance(message.get("method"), str):
            self._hear_of(message["method"], message, len(line))
        elif isinstance(message, dict) and isinstance(message.get("id"), int) and message["id"] in self._asked:
            self._settle(self._asked[message["id"]], message)
        elif not (
            isinstance(message, dict) and "id" in message
        ):  # an answer may come when nobody waits for it any more
            self._pass_over(line)

    def _pass_over(self, line: str) -> None:
        self._strangers += 1
        if self._strangers > MAX_STRANGE:
            raise AgentGarbled(f"{self._strangers} lines that are no messages; the last one: {line[:200]!r}")
        self._strange(line)

    def _hear_of(self, method: str, message: dict[str, Any], chars: int) -> None:
        found = message.get("params")
        params: dict[str, Any] = found if isinstance(found, dict) else {}
        number = message.get("id")
        if number is None:
            self._hear(method, params)
        elif len(self._at_work) >= MAX_OPEN or sum(self._at_work.values()) + chars > MAX_OPEN_CHARS:
            self._send({"id": number, "error": {"code": BUSY, "message": "too many requests at a time"}})
        else:
            task = self._loop.create_task(self._work_on(number, method, params))
            self._at_work[task] = chars
            task.add_done_callback(self._at_work.pop)

    def _settle(self, asked: "asyncio.Future[Any]", message: dict[str, Any]) -> None:
        if asked.done():
            return
        if (error := message.get("error")) is not None:
            facts = error if isinstance(error, dict) else {}
            asked.set_exception(AgentRefused(facts.get("code"), str(facts.get("message") or error)))
        else:
            asked.set_result(message.get("result"))

    async def _work_on(self, number: object, method: str, params: Params) -> None:
        try:
            answer: dict[str, Any] = {"result": dict(await self._answer(method, params))}
        except NoMethod:
            answer = {"error": {"code": NO_METHOD, "message": f"there is no method {method[:80]!r}"}}
        except (BadInput, msgspec.ValidationError) as exc:
            answer = {"error": {"code": INVALID_PARAMS, "message": str(exc)}}
        except (WorkFailed, StorageFull) as exc:
            answer = {"error": {"code": INTERNAL, "message": str(exc)}}
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001 - not swallowed: it ends the conversation, and rises there
            self.fail(exc)
            return
        self._send({"id": number, **answer})

    # --- to the program ---------------------------------------------------------------------------------------------

    async def ask(self, method: str, params: Params, timeout_s: float | None = None) -> Any:  # noqa: ANN401 - any JSON
        """Ask the program; its answer.

        Raises:
            AgentRefused: it answers with an error.
            AgentSilent: it does not answer in time.
            BaseException: what the conversation was ended with (:meth:`fail`).
        """
        if self._broken is not None:
            raise self._broken
        number = next(self._numbers)
        self._asked[number] = asked = self._loop.create_future()
        self._send({"id": number, "method": method, "params": params})
        try:
            async with asyncio.timeout(timeout_s):
                return await asked
        except TimeoutError as exc:
            raise AgentSilent(f"no answer to {method}", timeout_s or 0.0) from exc
        finally:
            del self._asked[number]

    def tell(self, method: str, params: Params) -> None:
        """Tell the program something that it does not answer."""
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        if self._broken is None:
            self._write(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")

    # --- the end ----------------------------------------------------------------------------------------------------

    def fail(self, exc: BaseException) -> None:
        """End the conversation: whoever waits for an answer, or asks from now on, gets this."""
        self._broken = self._broken or exc
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(exc)

    async def close(self) -> None:
        """Leave no question at work."""
        at_work = tuple(self._at_work)
        for task in at_work:
            task.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)
