"""Every message on the link between a sidecar and its hub, one struct a kind.

A message is a MessagePack map whose ``t`` names its kind; a frame holds one message or an array of them. Messages that
must arrive exactly once carry an order number ``n`` (from 1, one count per direction and connection of boots; 0: not
ordered): they are resent after a reconnect until the peer acknowledges them. Everything that belongs to an attempt
names it by all four parts of its identity.
"""

from typing import Annotated, Final

from msgspec import Meta, Raw, Struct

from protocol.bounds import Count, Few, Many, Measure, Sentence, Text, Whole, Word, Words
from protocol.endpoints import EndpointTrouble
from protocol.keystore import Value
from protocol.limits import MAX_SECRETS
from protocol.loads import Answering, Turn
from protocol.machine import HostReading, HostReport
from protocol.model import (
    AttemptId,
    AttemptState,
    EndpointReport,
    FailureClass,
    Finding,
    Routing,
    TaskResult,
    Usage,
)


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="t", gc=False):
    """Base of all messages. Unknown fields are ignored, so a newer peer of the same version may add some.

    Messages hold only values, so nothing in them can lead back to them and the collector need not look (``gc``).
    """


class Ordered(Message, frozen=True, kw_only=True):
    """Base of the messages that arrive exactly once and in order. ``n`` is set by the session."""

    n: Whole = 0


class HeldAttempt(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An attempt that a sidecar holds: in work, or finished with its report still unacknowledged."""

    attempt: AttemptId
    state: AttemptState
    iteration: Count = 0
    answering: Answering | None = None
    """How the answer of a model comes along that it waits for."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What the hub says about one held attempt.

    ``keep``: it is the current attempt of its task and this sidecar's; its lease is renewed. ``stop``: the task is
    known, and this attempt does not count: the task has ended or waits, or another attempt has it. ``unknown``: this
    hub has no such task.
    """

    attempt: AttemptId
    verdict: Word


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """First message of a sidecar: who it is, what it can do, what it holds."""

    protocol: tuple[Count, Count]
    sidecar: Word
    boot: Count
    host: Word
    slots: Whole
    version: Word
    capabilities: Few[Word] = ()
    endpoints: Few[EndpointReport] = ()
    inventory: Many[HeldAttempt] = ()
    hub_boot: Count = 0
    """The hub boot that this sidecar last spoke with, 0 for none; ``received`` counts that boot's ordered messages."""
    received: Count = 0
    draining: bool = False
    instance: Word = ""
    """Random name of the state directory: boots are counted there, and it tells two machines of one name apart."""
    dial: Count = 0
    """Counts the hellos of this boot, from 1, so that one that was overtaken is found out; 0: not counted."""
    key: Word = ""
    """Public key of the machine (Ed25519, 43 characters of base64url), if it has joined with one."""


class Challenge(Message, frozen=True, kw_only=True, tag="challenge"):
    """The hub's answer to a hello that names the key of a machine it knows: prove that you hold it, before anything."""

    nonce: Word


class Signature(Message, frozen=True, kw_only=True, tag="signature"):
    """The sidecar's answer to a challenge: :func:`protocol.keys.said_at_hello`, signed (86 characters of base64url)."""

    signature: Word
    channel: Word = ""
    """SHA-256 of the certificate that the sidecar sees at the other end, 64 hexadecimal digits; empty: no TLS."""


class Welcome(Message, frozen=True, kw_only=True, tag="welcome"):
    """The hub's answer to a hello: the settled protocol, its own boot, what it has received, and its verdicts."""

    protocol: Count
    hub_boot: Count
    received: Count
    heartbeat_s: Measure
    lease_s: Measure
    verdicts: Many[Verdict] = ()
    draining: bool = False
    afresh: bool = False
    """The hub counts from 1, and so does the sidecar: it knows nothing of an earlier connection of this boot."""
    hubs: Few[Word] = ()
    """Addresses of all hubs that live: any of them takes this sidecar."""
    artifact_bytes: Count = 0
    """The largest file that this hub keeps for a task; 0: it does not say."""
    artifacts_bytes: Count = 0
    """All files of one attempt together; 0: it does not say."""


class Heartbeat(Message, frozen=True, kw_only=True, tag="heartbeat"):
    """The sidecar lives; renews the lease of every attempt it names."""

    sidecar: Word
    boot: Count
    attempts: Many[HeldAttempt] = ()
    host: HostReport | None = None
    """The machine, at full length: what an agent of another make may send instead of ``reading``."""
    endpoints: Few[EndpointReport] | None = None
    capabilities: Few[Word] | None = None
    draining: bool = False
    """The sidecar is about to leave: it finishes what it holds and takes nothing new."""
    reading: HostReading | None = None
    """The machine; what has not changed since the last one on this connection may be left out."""
    troubles: Few[EndpointTrouble] | None = None
    """LLM endpoints that do not answer or refuse work, when that changed; those that do not answer are in no report."""


class Carry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the attempt before has left for the one that climbs.

    Its work is the ``commit`` on ``branch``, if it could be kept (in the repository, or on the host of that attempt
    only); ``findings`` are those of its last iteration, ``usage`` is that of all attempts so far.
    """

    attempt: AttemptId
    model: Word
    iterations: Count
    execution_ok: bool
    findings: Many[Finding] = ()
    summary: Sentence = ""
    output: Text = ""
    branch: Word = ""
    commit: Word = ""
    usage: Usage = Usage()


class Proof(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Work to prove: what the ``attempt`` has pushed, as the ``commit`` on ``branch``.

    Without a commit it changed nothing, and its checks are to pass on the branch that it began from.
    """

    attempt: AttemptId
    branch: Word = ""
    commit: Word = ""


class Assign(Ordered, frozen=True, kw_only=True, tag="assign"):
    """Do this. ``spec`` is the task spec exactly as stored.

    ``endpoint`` comes along when the routing picked one that people have added at the hub: the sidecar may not know it.
    """

    attempt: AttemptId
    spec: Raw
    routing: Routing
    lease_s: Measure
    endpoint: EndpointReport | None = None
    carry: Carry | None = None
    """What an earlier attempt has left to go on from; an older sidecar begins anew."""
    proof: Proof | None = None
    """Do nothing but run the checks on this; only for sidecars with the executor :data:`protocol.reviews.PROOF`."""
    trace: Word = ""
    """Where the attempt stands in a trace, as a ``traceparent``; empty: in none, and nothing is told of it."""


class Accept(Ordered, frozen=True, kw_only=True, tag="accept"):
    """The attempt is written down at the sidecar and starts."""

    attempt: AttemptId


class Reject(Ordered, frozen=True, kw_only=True, tag="reject"):
    """The sidecar does not take the attempt (draining, no free slot, unknown executor)."""

    attempt: AttemptId
    code: Word
    reason: Sentence


class Progress(Ordered, frozen=True, kw_only=True, tag="progress"):
    """The attempt has moved on. With ``turn``: its model has done something, and state and iteration are as before."""

    attempt: AttemptId
    state: AttemptState
    iteration: Count = 1
    detail: Sentence = ""
    turn: Turn | None = None


class Log(Ordered, frozen=True, kw_only=True, tag="log"):
    """A piece of the attempt's output. ``offset`` is its first byte's place in the attempt's whole log."""

    attempt: AttemptId
    offset: Count
    stream: Word
    text: Text


class Report(Ordered, frozen=True, kw_only=True, tag="report"):
    """The attempt has ended. Acknowledged after it is stored; answered by ``error`` code ``stale`` if it is late."""

    attempt: AttemptId
    state: AttemptState
    result: TaskResult
    failure: FailureClass | None = None


class Cancel(Ordered, frozen=True, kw_only=True, tag="cancel"):
    """Stop the attempt and report nothing more of it than that it stopped."""

    attempt: AttemptId
    reason: Sentence


class Pause(Ordered, frozen=True, kw_only=True, tag="pause"):
    """Stop the attempt at the end of its turn, to go on later (``on``), or do not stop it after all.

    Only for sidecars with the capability :data:`protocol.progress.PAUSE`, and for work of a model. The report that
    follows has the state ``cancelled`` and the code :data:`protocol.progress.PAUSED`.
    """

    attempt: AttemptId
    reason: Sentence = ""
    on: bool = True


class Reclaim(Ordered, frozen=True, kw_only=True, tag="reclaim"):
    """The owner of the machine wants its GPU back (``on``), or gives it again; its capabilities say what is so.

    Only for sidecars with the capability :data:`protocol.progress.PAUSE`.
    """

    on: bool
    by: Sentence = ""


class Upgrade(Ordered, frozen=True, kw_only=True, tag="upgrade"):
    """The machine is to get the release that the hub runs, as soon as its work has ended.

    Only for sidecars with the capability :data:`protocol.joining.UPGRADE`. A wish: how it goes the machine tells by
    itself.
    """

    by: Sentence = ""


class Forget(Ordered, frozen=True, kw_only=True, tag="forget"):
    """These tasks have ended for good: remove what was pushed of their work in progress, in the repository ``repo``.

    Only for sidecars with the capability :data:`protocol.progress.FORGET`. A wish: nothing answers it.
    """

    repo: Word
    tasks: Many[Word]


class LogLevels(Ordered, frozen=True, kw_only=True, tag="log_levels"):
    """Log from these levels on, by component; all others as the settings say. In force until the connection ends.

    Only for sidecars with the capability :data:`protocol.log_levels.LOG_LEVELS`; they leave words they do not know.
    """

    levels: Words = {}


class AskSecrets(Message, frozen=True, kw_only=True, tag="ask_secrets"):
    """The attempt begins its work: give it the secrets that its task names. Lost, it is asked again.

    Only sent by sidecars that hold the attempt, for a task that names some; answered by :class:`Secrets`.
    """

    attempt: AttemptId


class Secrets(Message, frozen=True, kw_only=True, tag="secrets"):
    """The secrets of an attempt, by name; or ``code`` and ``detail`` say why it does not get them."""

    attempt: AttemptId
    values: Annotated[dict[Word, Value], Meta(max_length=MAX_SECRETS)] = {}
    code: Word = ""
    detail: Text = ""

    def __repr__(self) -> str:
        return f"Secrets({self.attempt!r}, {sorted(self.values)}, {self.code!r})"  # no trace shows what they are


class Drain(Ordered, frozen=True, kw_only=True, tag="drain"):
    """Take no new attempts (``on``), or take them again."""

    on: bool


class Prewarm(Message, frozen=True, kw_only=True, tag="prewarm"):
    """Work for this model will come soon: load it (``on``), or let it be, as the work goes elsewhere.

    Only for sidecars with the capability :data:`PREWARM`. A wish: one that is lost, or that cannot be met, costs time.
    """

    endpoint: Word
    model: Word
    on: bool = True
    context: Count = 0
    keep_alive_s: Measure = 300.0


PREWARM: Final = "prewarm"


class Ack(Message, frozen=True, kw_only=True, tag="ack"):
    """All ordered messages up to ``n`` are safe here."""

    n: Count


class Ping(Message, frozen=True, kw_only=True, tag="ping"):
    """Are you there? ``token`` comes back in the pong."""

    token: Whole


class Pong(Message, frozen=True, kw_only=True, tag="pong"):
    """I am."""

    token: Whole


class Error(Message, frozen=True, kw_only=True, tag="error"):
    """Something the peer sent was refused. ``fatal``: the connection ends after it."""

    code: Word
    detail: Sentence
    fatal: bool = False
    attempt: AttemptId | None = None
    retry_after_s: Measure = 0.0
    """Whoever comes back earlier is not let in; 0: it may come at once. An older sidecar comes as it likes."""


AnyMessage = (
    Hello
    | Challenge
    | Signature
    | Welcome
    | Heartbeat
    | Assign
    | Accept
    | Reject
    | Progress
    | Log
    | Report
    | Cancel
    | Pause
    | Reclaim
    | Forget
    | LogLevels
    | Upgrade
    | AskSecrets
    | Secrets
    | Drain
    | Prewarm
    | Ack
    | Ping
    | Pong
    | Error
)

Wish = Prewarm | Pause | Reclaim | Forget | LogLevels | Upgrade
"""What a hub wants of a sidecar beside the life and death of attempts."""

KINDS: Final[dict[str, type[Message]]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        Hello,
        Challenge,
        Signature,
        Welcome,
        Heartbeat,
        Assign,
        Accept,
        Reject,
        Progress,
        Log,
        Report,
        Cancel,
        Pause,
        Reclaim,
        Forget,
        LogLevels,
        Upgrade,
        AskSecrets,
        Secrets,
        Drain,
        Prewarm,
        Ack,
        Ping,
        Pong,
        Error,
    )
}
