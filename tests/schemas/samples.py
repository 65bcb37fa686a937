"""One value of every kind that is on the wire, every field other than its default. Golden bytes are of these; never change one:
a new kind, or a new format of an old one, gets a new sample."""

from typing import Any

from perdure.schemas import events as ev
from perdure.schemas import messages as ms
from perdure.schemas import records as rc

PARENT = ev.Parent("order-1", "1f-1", 7, 2)
RETRY = ev.RetryOptions(1_000, 5, 2.5, 60_000, 3_600_000, ("ValueError", "shop.OutOfStock"))
CAUSE = ev.Failure("OSError", "connection refused", "Traceback …\n", None, retriable=False, details=b'{"errno":111}')
FAILURE = ev.Failure(
    "shop.PaymentFailed", "card 4242 · déclined", "Traceback …\n", CAUSE, retriable=True, details=b"[1,2]"
)
TAGS = {"tenant": "acme", "priority": "high"}
TIME_MS = 1_790_000_000_123
DIGEST = bytes(range(16))

EVENTS: tuple[ev.HistoryEvent, ...] = (
    ev.ExecutionStarted(
        "1f-2", "ship", b'{"to":"Tokyo"}', TIME_MS, TIME_MS + 5, 2, PARENT, TAGS, (1, 3), ("req-1", "req-2")
    ),
    ev.ExecutionCompleted(ev.Status.FAILED, b"[true]", FAILURE),
    ev.ExecutionTerminated(b'"enough"', "req-3"),
    ev.ExecutionSuspended("lunch", "req-4"),
    ev.ExecutionResumed("back", "req-5"),
    ev.ExecutionCancelRequested("changed my mind", "req-6"),
    ev.TaskScheduled(300, "charge", b'"Tokyo"', RETRY, 30_000, 600_000, TAGS),
    ev.TaskRescheduled(300, 3, ev.RescheduleReason.RELEASE),
    ev.TaskCompleted(300, 3, b'"Hello Tokyo"'),
    ev.TaskFailed(300, 3, FAILURE, TIME_MS),
    ev.TaskCanceled(300),
    ev.SubOrchestrationInstanceCreated(4, "pack", "order-1:1f-2:4", b"{}", RETRY, TAGS),
    ev.SubOrchestrationInstanceRecreated(4, 2),
    ev.SubOrchestrationInstanceCompleted(4, 2, b"42"),
    ev.SubOrchestrationInstanceFailed(4, 2, FAILURE, TIME_MS),
    ev.TimerCreated(5, TIME_MS),
    ev.TimerFired(5, TIME_MS),
    ev.TimerCanceled(5),
    ev.EventRaised("Approved", b'{"by":"me"}', "req-7"),
    ev.EventSent(6, "order-2", "Approved", b"null"),
    ev.CustomStatusSet(b'"packing"'),
    ev.PatchMarked("2026-11-faster"),
)

BODIES: tuple[ms.Body, ...] = (
    ms.Start(
        "ship",
        b'{"to":"Tokyo"}',
        TAGS,
        TIME_MS,
        ms.ReusePolicy.REPLACE,
        (3, 4),
        PARENT,
        (("Approved", b"1"), ("Go", b"2")),
        tell_end=True,
    ),
    ms.RaiseEvent("Approved", b'{"by":"me"}'),
    ms.Cancel("changed my mind"),
    ms.Terminate(b'"enough"', recursive=False),
    ms.Suspend("lunch"),
    ms.Resume("back"),
    ms.Purge(force=True),
    ms.TaskResult("1f-2", 300, 3, b"1", FAILURE),
    ms.ChildResult("1f-2", 4, 2, b"1", FAILURE),
    ms.Query(ms.QueryKind.LIST, b'{"limit":5}'),
    ms.RaiseLevel(2),
)

MESSAGES = tuple(
    ms.Inbound("order-1", body, "req-1", ms.Origin("topic-1", 11, 300), ms.ReplyTo("client-1", 2), 1) for body in BODIES
)
REPLY = ms.Reply("client-1", "req-1", ms.ReplyCode.ENDED, b'{"a":1}', 11, 300)

SOURCES = (rc.SourceMark("topic-1", 11, 300), rc.SourceMark("topic-2", 0, 1))
TURN = rc.TurnBody(
    time_ms=TIME_MS,
    consumed=(1_000_000, 1_000_002),
    inbox_mark=999_999,
    locals=(7, 8),
    decided=False,
    events=(*EVENTS, ev.UnknownEvent(4_711, b"from a newer build")),
    sends=(rc.Send(3, 300, b"\xd1 a message"), rc.Send(rc.DEAD_LETTER, 1, b"?")),
    cursors=(rc.Cursor(3, 299), rc.Cursor(rc.DEAD_LETTER, 0)),
    sources=SOURCES,
    released=True,
)
CLAIM = rc.Claim("worker-1", TIME_MS, "127.0.0.1:8080", 12, "murmur2", 1, 500)
TRIED = (rc.Tried("order-1", ("worker-2",), ("worker-3", "worker-4")), rc.Tried("ördér-2", (), ("worker-1",)))
CHECKPOINT = rc.Checkpoint(
    TIME_MS,
    999_999,
    (1_000_000, 1_000_002),
    SOURCES,
    (rc.TargetState(3, 300, 299),),
    1,
    500,
    "worker-1",
    "10.0.0.1:7000",
    TRIED,
)
CARRIED = rc.CarriedHistory("order-1", 12_345, (rc.CarriedTurn(300, 1, b"first"), rc.CarriedTurn(301, 2, b"")))
ATTEMPT = rc.Attempt(TIME_MS, ("order-1", "ördér-2"))
LEVEL = rc.LevelRaised(2, TIME_MS)
ENVELOPE = rc.Envelope(
    rc.RecordKind.TURN, 1, 12_000, 12_345, DIGEST, "ördér-1", b"body", 1, 3, rc.Opening(11_999, DIGEST[::-1])
)
MANIFEST = rc.SnapshotManifest("cluster-1", "topic-1", 11, 12_000, 12_345, DIGEST, 1, b"checksum", 300, 1_000_000)
CHUNK = b"some of a store"

RECORDS: dict[str, Any] = {
    "TurnBody": TURN,
    "Claim": CLAIM,
    "Checkpoint": CHECKPOINT,
    "CarriedHistory": CARRIED,
    "LevelRaised": LEVEL,
    "Attempt": ATTEMPT,
}
