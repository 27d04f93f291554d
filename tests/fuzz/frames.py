"""A fuzzer of the decoder and the session, led by what of ``protocol`` its inputs reach (Atheris on libFuzzer).

``python tests/fuzz/frames.py CORPUS [-runs=N] [-max_total_time=S] [-seed=N]``: any option of libFuzzer. The corpus
begins with the golden bytes of every message, alone and in frames of several. Half of the mutations are those of
MessagePack values, the rest those of bytes. An input is one or more frames, as a peer might send them over one line. It
fails on any error that is not one of ours, and if a promise of the session does not hold. It is run by
``tests/faults/test_fuzzed.py``.
"""

import json
import random
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import atheris  # noqa: E402 - it has to watch the imports that follow

with atheris.instrument_imports(include=["protocol"]):
    from protocol import codec
    from protocol.errors import FrameTooLarge, MalformedFrame, ProtocolViolation
    from protocol.messages import Message, Ordered
    from protocol.salvage import Unreadable
    from protocol.session import Session

import msgpack  # noqa: E402 - behind what is watched

from sidecar.core.sendable import sendable  # noqa: E402 - behind what is watched
from tests.support.mutations import damaged, odd  # noqa: E402 - behind what is watched

GOLDEN: Final = ROOT / "tests" / "unit" / "protocol" / "golden" / "messages.json"
CORPUS: Final = [bytes.fromhex(entry["hex"]) for entry in json.loads(GOLDEN.read_text("utf-8")).values()]
TELL_EVERY: Final = 1_000
MAX_BYTES: Final = 1 << 16
_MARK: Final = b"\xc1\xc1"
"""Between two frames of one input: no MessagePack begins so."""
counts: Final = {"inputs": 0, "frames": 0, "decoded": 0, "malformed": 0, "unreadable": 0, "violations": 0}


def once(data: bytes) -> None:
    """One line of a peer that sends these frames."""
    counts["inputs"] += 1
    if counts["inputs"] % TELL_EVERY == 0:  # libFuzzer ends the process without a word of ours
        print(f"fuzzed: {counts}", flush=True)
    session = Session()
    session.connected(0, 0.0)
    for number, frame in enumerate(data.split(_MARK)[:20]):
        counts["frames"] += 1
        decoded(frame)
        before = session.received
        try:
            found = session.receive(frame, float(number))
        except (FrameTooLarge, MalformedFrame):
            counts["malformed"] += 1
            assert session.received == before, "what cannot be read changes nothing"
            continue
        except ProtocolViolation:
            counts["violations"] += 1
            assert session.received == before, "nothing of a frame that breaks the order counts"
            return  # as a link does: the line ends
        taken = [message.n for message in found if isinstance(message, Ordered | Unreadable) and message.n]
        assert taken == list(range(before + 1, session.received + 1)), "each number once, in order, without a gap"
        for n in taken:
            session.acknowledge(n)
        assert session.safe == session.received
        for answer in session.data_to_send():
            codec.decode(answer)
        if found and isinstance(found[-1], Unreadable):
            counts["unreadable"] += 1
            str(codec.in_full(found[-1].error))
            return
        assert not any(isinstance(message, Unreadable) for message in found), "it is the last of its frame"


def decoded(frame: bytes) -> None:
    """What can be read can be said again, and is what it was."""
    try:
        messages = codec.decode(frame)
    except MalformedFrame as exc:
        str(codec.in_full(exc))
        return
    except FrameTooLarge:
        return
    for message in messages:
        counts["decoded"] += 1
        assert isinstance(message, Message)
        assert codec.decode(codec.encode(message)) == [message]
        assert sendable(message) == (message, ""), "what came over the wire may go over it"


def mutated(data: bytes, max_bytes: int, seed: int) -> bytes:
    """The input changed: as MessagePack where it is some, else as bytes."""
    chance = random.Random(seed)
    frames = data.split(_MARK)
    place = chance.randrange(len(frames))
    what = chance.random()
    if what < 0.5:
        try:
            plain = msgpack.unpackb(frames[place], strict_map_key=False, timestamp=0)
        except (ValueError, TypeError, msgpack.UnpackException):  # the last but one: a map as a key
            plain = msgpack.unpackb(chance.choice(CORPUS), strict_map_key=False)
        many = plain if isinstance(plain, list) else [plain]
        many = [odd(chance, each) if isinstance(each, dict) and chance.random() < 0.7 else each for each in many]
        if chance.random() < 0.3:
            many.append(msgpack.unpackb(chance.choice(CORPUS), strict_map_key=False))
        if chance.random() < 0.5:
            many = [
                {**each, "n": n} if isinstance(each, dict) and "n" in each else each for n, each in enumerate(many, 1)
            ]
        frames[place] = msgpack.packb(many if len(many) > 1 else many[0], unicode_errors="surrogatepass")
    elif what < 0.6:
        frames.append(chance.choice(CORPUS))
    elif what < 0.8:
        frames[place] = damaged(chance, frames[place] or b"\x80", CORPUS)
    else:
        return bytes(atheris.Mutate(data, max_bytes))
    return _MARK.join(frames)[:max_bytes]


def main() -> None:
    """Fill the corpus, and fuzz until libFuzzer has had its fill."""
    folder = Path(next(argument for argument in sys.argv[1:] if not argument.startswith("-")))
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(CORPUS):
        (folder / f"golden-{number}").write_bytes(frame)
    (folder / "golden-all").write_bytes(_MARK.join(CORPUS))
    (folder / "golden-array").write_bytes(bytes((0xDC, 0, len(CORPUS))) + b"".join(CORPUS))
    atheris.Setup([sys.argv[0], f"-max_len={MAX_BYTES}", *sys.argv[1:]], once, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
