"""An asynchronous client on an event loop of its own, in a thread: what every part of the blocking client stands on."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from agentcom.aio import AsyncClient

T = TypeVar("T")


class Blocking:
    """The loop of a client in its thread, and the way to call it.

    Args:
        hub, token, token_file, data_dir, patience_s, is_brief: as for :class:`agentcom.aio.AsyncClient`.
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
        self._client = AsyncClient(
            hub,
            token,
            token_file=token_file,
            data_dir=data_dir,
            ca_file=ca_file,
            ca_hash=ca_hash,
            patience_s=patience_s,
            is_brief=is_brief,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="agentcom-client", daemon=True)
        self._thread.start()

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
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
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
            if not self._loop.is_closed():
                self._run(stream.aclose())
