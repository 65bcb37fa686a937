"""The format level that an owner writes at (R12): the hub's, which only a record in its log raises."""

from functools import cache

from perdure.actors.flags import flags_at
from perdure.schemas.codec import BODIES, VOCABULARY, Vocabulary, format_of
from perdure.schemas.records import LEVEL, RecordKind, TurnBody


class WrittenLevel:
    """What a tenure writes by. In a hub above what this build knows, all that this build can write is below its level."""

    __slots__ = ("_formats", "_vocabulary", "flags", "number")

    def __init__(self, hub_level: int) -> None:
        self.number = min(hub_level, LEVEL)
        self.flags = flags_at(self.number)
        """The engine flags that an execution which starts now records."""
        self._vocabulary = _vocabulary_at(self.number)
        # By the kind's number: to hash an enum's member takes longer than to count to it.
        self._formats = [format_of(kind, self.number) if kind in BODIES else 0 for kind in range(max(BODIES) + 1)]

    def encode_turn(self, body: TurnBody) -> bytes:
        return self._vocabulary.encode_turn(body)

    def format_of(self, kind: RecordKind) -> int:
        """The format of the body of such a record."""
        return self._formats[kind]


@cache
def _vocabulary_at(level: int) -> Vocabulary:
    return VOCABULARY if level == VOCABULARY.level else VOCABULARY.at(level)


def why_not_raised(asked: int, current: int) -> str:
    """Why a partition at level `current` is not raised to `asked`; empty if it may be."""
    if asked > LEVEL:
        return f"its owner knows formats up to level {LEVEL}, and not {asked}: deploy newer workers first"
    if asked < current:
        return f"its format level is {current} already, and never goes back"
    return ""
