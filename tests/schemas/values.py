"""Hypothesis strategies for every class of the vocabulary, derived from its annotations."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import IntEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from perdure.schemas import messages as ms
from perdure.schemas import records as rc
from perdure.schemas.avro import shipped
from perdure.schemas.events import Failure, HistoryEvent, UnknownEvent
from perdure.schemas.vocabulary import VOCABULARY

LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
INTS = st.integers(-(1 << 31), (1 << 31) - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
BYTES = st.binary(max_size=90)
FAILURES: st.SearchStrategy[Failure] = st.recursive(
    st.builds(Failure, TEXTS, TEXTS, TEXTS, st.none(), st.booleans(), BYTES),
    lambda causes: st.builds(Failure, TEXTS, TEXTS, TEXTS, causes, st.booleans(), BYTES),
    max_leaves=5,
)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: LONGS,
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: TEXTS,
    bytes: BYTES,
    bool: st.booleans(),
    Failure: FAILURES,
}
EVENTS = tuple(kind.cls for kind in VOCABULARY.kinds)
TRAVELLING = tuple(cls for cls in get_args(ms.Body) if cls not in (ms.TimerDue, ms.TaskLost))


def any_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of one annotation."""
    if hint in PLAIN:
        return PLAIN[hint]
    if hint == HistoryEvent:
        return st.one_of(unknown_events(), *map(any_of, EVENTS))
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return st.sampled_from(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        hints, narrow = get_type_hints(hint), narrow_fields(hint)
        return st.builds(
            hint,
            **{
                name: narrow[name] if name in narrow else any_of(hints[name])
                for name in (field.name for field in fields(hint))
            },
        )
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return st.one_of(*[st.none() if part is NoneType else any_of(part) for part in arguments])
    if origin is Mapping:
        return st.dictionaries(TEXTS, TEXTS, max_size=3)
    if arguments[1:] == (Ellipsis,):
        return st.lists(any_of(arguments[0]), max_size=4).map(tuple)
    return st.tuples(*map(any_of, arguments))


def narrow_fields(cls: type[Any]) -> dict[str, st.SearchStrategy[Any]]:
    """Fields whose integers have 32 bits on the wire."""
    narrow = {"int": INTS, "{'type': 'array', 'items': 'int'}": st.lists(INTS, max_size=4).map(tuple)}
    types = {field["name"]: str(field["type"]) for field in shipped(cls.__name__, 1).parsed["fields"]}
    enums = {name for name, hint in get_type_hints(cls).items() if isinstance(hint, type) and issubclass(hint, IntEnum)}
    return {name: narrow[kind] for name, kind in types.items() if kind in narrow and name not in enums}


def unknown_events() -> st.SearchStrategy[UnknownEvent]:
    known = {kind.number for kind in VOCABULARY.kinds}
    return st.builds(UnknownEvent, INTS.filter(lambda kind: kind not in known), BYTES)


def messages() -> st.SearchStrategy[ms.Inbound]:
    hints = get_type_hints(ms.Inbound)
    given = {name: any_of(hint) for name, hint in hints.items() if name not in ("body", "forwards")}
    return st.builds(ms.Inbound, body=st.one_of(*map(any_of, TRAVELLING)), forwards=INTS, **given)


RECORDS = (rc.TurnBody, rc.Claim, rc.Checkpoint, rc.CarriedHistory, rc.LevelRaised, rc.Attempt)
