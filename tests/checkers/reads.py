"""C13: a read shows confirmed state, exactly as of the offset that it names (R16)."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from perdure.schemas.codec import decode_reply
from perdure.schemas.messages import QueryKind, Reply, ReplyCode

from .evidence import Evidence, Outcome, Violation
from .folding import Folding, Life
from .reading import Entry, Reading


class Reads:
    """The answers of one partition that show instances, each compared when the fold is where it says that it looked."""

    def __init__(self, replies: Iterable[Reply]) -> None:
        self.found: list[Violation] = []
        self._waiting: defaultdict[int, list[Reply]] = defaultdict(list)
        for reply in replies:
            self._waiting[reply.offset].append(reply)

    def take(self, entry: Entry, next_offset: int, foldings: Mapping[str, Folding]) -> None:
        """The fold is at `entry`, and stays so until `next_offset`."""
        if not self._waiting:
            return
        for offset in [offset for offset in self._waiting if entry.offset <= offset < next_offset]:
            for reply in self._waiting.pop(offset):
                self._check(reply, foldings)

    def _check(self, reply: Reply, foldings: Mapping[str, Folding]) -> None:
        body = orjson.loads(reply.body)
        if not isinstance(body, dict):
            return
        views = list(_views_of(body))
        for view in views:
            folding = foldings.get(view["instance_id"])
            life = folding.life if folding is not None else None
            expected = None if life is None else shown(life)
            found = {name: view[name] for name in (expected or {})}
            if expected != found:
                text = (
                    f"{reply.request_id} shows {view['instance_id']} as of {reply.partition}:{reply.offset} as {found}"
                )
                self.found.append(Violation("C13", f"{text}; the log says {expected}"))
        if "turns" in body and views:
            self._check_history(reply, body, foldings)

    def _check_history(self, reply: Reply, body: Mapping[str, Any], foldings: Mapping[str, Folding]) -> None:
        folding = foldings.get(body["instance"]["instance_id"])
        life = folding.life if folding is not None else None
        if life is not None and body["next"] is None and len(body["turns"]) != life.turns:
            text = f"{reply.request_id} shows {len(body['turns'])} turns of {life.instance_id}, and it had {life.turns}"
            self.found.append(Violation("C13", text))


def _views_of(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if body.keys() >= {"as_of", "instance_id"}:
        yield body
    if isinstance(body.get("instance"), dict):
        yield body["instance"]
    yield from body.get("instances", ())


def shown(life: Life) -> dict[str, Any]:
    """What every view says of an instance, as JSON."""
    started = life.started
    return {
        "name": started.name,
        "status": life.shown.name,
        "execution_id": started.execution_id,
        "generation": started.generation,
        "result": orjson.loads(life.result),
        "custom_status": orjson.loads(life.custom_status),
        "tags": dict(started.tags),
        "history_events": life.events,
    }


def reads_by_partition(records: Iterable[Any], partitions: Iterable[int]) -> dict[int, Reads]:
    """Every reply that may show an instance, by the partition that gave it."""
    replies: defaultdict[int, list[Reply]] = defaultdict(list)
    for record in records:
        reply = decode_reply(record.value or b"")
        if reply.code in (ReplyCode.OK, ReplyCode.ENDED, ReplyCode.HELD):
            replies[reply.partition].append(reply)
    return {partition: Reads(replies[partition]) for partition in partitions}


def check_barriers(evidence: Evidence, reading: Reading) -> Iterator[Violation]:
    """C13: a barrier is answered as of all that had landed when it was asked for; no owner that was deposed by then can say that."""
    asked = {
        call.request_id: call.invoked_ms
        for call in evidence.calls
        if call.detail == QueryKind.BARRIER.name and call.outcome is Outcome.OK
    }
    for record in evidence.replies or ():
        reply = decode_reply(record.value or b"")
        if reply.request_id not in asked or reply.code != ReplyCode.OK:
            continue
        entries, since = reading.entries[reply.partition], asked[reply.request_id]
        landed = max((entry.offset for entry in entries if entry.time_ms < since), default=-1)
        if reply.offset < landed:
            text = f"barrier {reply.request_id} is answered as of {reply.partition}:{reply.offset}"
            yield Violation("C13", f"{text}, and {landed} had landed before it was asked for")
