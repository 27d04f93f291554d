"""An asynchronous client for programs without an event loop: what every part of the blocking client stands on."""

import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from agentcom import settings

if TYPE_CHECKING:
    import asyncio

    from agentcom.aio import AsyncClient
    from agentcom.calls import Calls

T = TypeVar("T")


class Blocking:
    """The loop of a client in its thread, and the way to call it.

    A brief client has none until it is asked for what goes on (:attr:`_staying`): calls run in the thread that asks.

    Args:
        hub, token, token_file, data_dir, ca_file, ca_hash, patience_s: as for :class:`agentcom.aio.AsyncClient`.
        is_brief: for a few calls: the first one starts sooner, and each has a connection of its own.
    Raises:
        BadInput: the settings are wrong.
    """

    def __init__(
        self,
        hub: str | None = None,
        token: str | None = None,
        *,
        token_file: str | None = None,
        data_dir: str | None = None,
        ca_file: str | None = None,
        ca_hash: str | None = None,
        patience_s: float = 10.0,
        is_brief: bool = False,
    ) -> None:
        given = {"hub": hub, "token": token, "token_file": token_file, "data_dir": data_dir}
        self._found = settings.load({**given, "ca_file": ca_file, "ca_hash": ca_hash})
        self._patience_s = patience_s
        self._loop: asyncio.AbstractEventLoop | None = None
        if not is_brief:
            self._client = self._stay(self._found.hub)
            return
        from agentcom.brief import BriefTransport

        way = BriefTransport(self._found.hub, self._found.token, patience_s=patience_s, trust=self._found.trust)
        self._client = self._asking(way)

    @property
    def url(self) -> str:
        """Address of the hub that is asked now."""
        return self._client.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections; closing twice does nothing."""
        if self._loop is None or self._loop.is_closed():
            return
        self._run(self._client.close())
        self._run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def _staying(self) -> "AsyncClient":
        """The client for what goes on: from now on it has a loop, and keeps its connections."""
        if self._loop is None:
            # Whoever answered last is asked first.
            self._client = self._stay(",".join(dict.fromkeys([self.url, *self._found.hub.split(",")])))
        return self._client

    def _stay(self, hubs: str) -> "AsyncClient":
        import asyncio

        from agentcom.transport import Transport

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="agentcom-client", daemon=True)
        self._thread.start()
        way = Transport(hubs, self._found.token, patience_s=self._patience_s, trust=self._found.trust)
        return self._asking(way)

    @staticmethod
    def _asking(way: "Calls") -> "AsyncClient":
        from agentcom.aio import AsyncClient

        return AsyncClient.over(way)

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            return _finished(call)
        import asyncio

        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C reaches this thread, not the loop: what runs there must not go on alone.
            future.cancel()
            raise

    def _each(self, stream: AsyncGenerator[T, None]) -> Iterator[T]:
        async def step() -> tuple[T, ...]:
            try:
                return (await anext(stream),)
            except StopAsyncIteration:
                return ()

        try:
            while found := self._run(step()):
                yield found[0]
        finally:
            if self._loop is None or not self._loop.is_closed():
                self._run(stream.aclose())


def _finished(call: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that waits for no loop."""
    try:
        call.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    raise AssertionError("a brief client has waited for a loop")
