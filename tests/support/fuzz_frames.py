"""Frames that were grown by what they reach: coverage-guided fuzzing of the decoder, the session and the walk.

``python -m tests.support.fuzz_frames FOLDER SECONDS`` feeds inputs for so long, from the golden frames on, and keeps
those that reach something new in ``FOLDER``. Atheris (libFuzzer) makes them. An error that is none of the protocol's
own ends it with a traceback, and so does an input that takes more than two seconds or 2 GiB.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["protocol"]):
    from protocol import codec, schema
    from protocol.errors import FrameTooLarge, MalformedFrame, ProtocolViolation
    from protocol.messages import Assign, Ordered, Report
    from protocol.session import Session

GOLDEN = Path(__file__).parents[1] / "unit" / "protocol" / "golden" / "messages.json"
_FRAMES = 4


def one(data: bytes) -> None:
    """Feed one input: the length of the first frame, the first frame, and so on; the last one takes the rest."""
    session = Session()
    session.connected(0, 0.0)
    for number in range(_FRAMES):
        size = len(data) if number == _FRAMES - 1 else int.from_bytes(data[:2], "big")
        frame, data = data[2 : 2 + size], data[2 + size :]
        _feed(session, frame, float(number))
        if not data:
            break


def _feed(session: Session, frame: bytes, now: float) -> None:
    try:
        for message in session.receive(frame, now):
            _use(message)
            session.acknowledge(message.n if isinstance(message, Ordered) else 0)
    except MalformedFrame as exc:
        codec.in_full(exc)
    except (FrameTooLarge, ProtocolViolation):
        pass
    session.tick(now)
    session.data_to_send()


def _use(message: object) -> None:
    """What the owner of a session does with what came: read the spec, keep the result, send it on."""
    if isinstance(message, Assign):
        try:
            spec = codec.decode_spec(message.spec)
        except MalformedFrame:
            return
        list(schema.spec_problems(spec))
    elif isinstance(message, Report):
        assert codec.decode_result(codec.kept_result(message.result)) == message.result


def seeds(folder: Path) -> int:
    """Write the golden frames, alone and one after another; how many there are."""
    frames = [bytes.fromhex(entry["hex"]) for entry in json.loads(GOLDEN.read_text("utf-8")).values()]
    inputs = [len(frame).to_bytes(2, "big") + frame for frame in frames]
    inputs += [first + second for first, second in pairwise(inputs)]
    for number, content in enumerate(inputs):
        (folder / f"seed-{number}").write_bytes(content)
    return len(inputs)


def main(folder: str, seconds: str) -> None:
    """Fuzz; libFuzzer ends the process itself."""
    seeds(Path(folder))
    flags = [f"-max_total_time={seconds}", "-max_len=8192", "-timeout=2", "-rss_limit_mb=2048", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], folder, *flags], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
