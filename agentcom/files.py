"""What can be asked of a hub about the files that tasks have left; part of :class:`agentcom.aio.AsyncClient`."""

from contextlib import aclosing
from pathlib import Path
from typing import IO, TypeAlias

from agentcom.calls import Calls
from protocol.api import PREFIX, ArtifactList, ArtifactView, TaskSummary
from protocol.errors import BadInput, Problem

TaskRef: TypeAlias = str | TaskSummary
"""A task that the hub knows: its id, or what the hub told of it (a ``TaskView`` is a ``TaskSummary`` too)."""


class Files:
    """Lists and fetches files."""

    _transport: Calls

    async def artifacts(self, task: TaskRef) -> ArtifactList:
        """Files that the attempts of a task have left.

        Raises:
            NotFound: there is no such task.
        """
        path = f"{PREFIX}/tasks/{task if isinstance(task, str) else task.id}/artifacts"
        return await self._transport.call("GET", path, ArtifactList, is_repeatable=True)

    async def download(self, artifact: ArtifactView, target: Path) -> Path:
        """Fetch a file; ``target`` is where it lies then, and is there only when all of it has come and is right.

        A connection that breaks is taken up where it broke.

        Raises:
            HubUnreachable: the hub is away for too long.
            BadInput: ``target`` cannot be written, or what came is not what the hub says it is.
        """
        import secrets

        draft = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
        try:
            with draft.open("xb") as file:
                found = await self._fetch(artifact, file)
            if found != artifact.sha256:
                problem = f"its SHA-256 is {found}, the hub says {artifact.sha256}"
                raise BadInput([Problem("artifact", f"{artifact.path[:100]!r} is damaged: {problem}")], "download")
            draft.replace(target)
        except OSError as exc:
            problem = f"cannot write {target}: {exc.strerror or exc}"
            raise BadInput([Problem("target", problem)], "download") from exc
        finally:
            draft.unlink(missing_ok=True)
        return target

    async def _fetch(self, artifact: ArtifactView, file: IO[bytes]) -> str:
        import asyncio
        import hashlib

        digest, path = hashlib.sha256(), f"{PREFIX}/artifacts/{artifact.id}/download"
        async with aclosing(self._transport.fetch(path, artifact.size_bytes)) as pieces:
            async for piece in pieces:
                digest.update(piece)
                await asyncio.to_thread(file.write, piece)
        return digest.hexdigest()
