"""Types of every kind that an author may annotate with, and values of each (Hypothesis strategies)."""

import enum
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Any, Generic, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from pydantic import BaseModel, Field, computed_field
from typing_extensions import TypedDict

T = TypeVar("T")


class Color(enum.Enum):
    RED = "r"
    BLUE = 2


class Planet(enum.Enum):
    EARTH = (5.97, 6.37)
    MARS = (0.64, 3.39)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"
    NO = "no"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    label: str | None = None


class Row(TypedDict, total=False):
    name: str
    seen: set[int]


@dataclass
class Page(Generic[T]):
    items: list[T]
    following: T | None = None


@dataclass(frozen=True, slots=True)
class Inner:
    at: datetime
    tags: frozenset[str] = frozenset()
    sizes: tuple[int, ...] = ()


@dataclass
class Outer:
    inner: Inner
    by_name: dict[str, Inner] = field(default_factory=dict)
    either: "int | str | None" = None
    color: Color = Color.RED


@dataclass
class Tree:
    value: int
    children: "list[Tree]" = field(default_factory=list)


@dataclass
class Cat:
    name: str
    kind: Literal["cat"] = "cat"


@dataclass
class Dog:
    name: str
    kind: Literal["dog"] = "dog"


class Account(BaseModel):
    number: int = Field(alias="accountNumber")
    opened: datetime
    owners: set[str] = set()
    balance: Decimal = Decimal(0)
    seal: bytes = b""
    linked: "list[Account]" = []

    @computed_field  # type: ignore[prop-decorator]
    @property
    def empty(self) -> bool:
        return self.balance == 0


class Box(BaseModel, Generic[T]):
    content: T


TEXT = st.text(max_size=6)
BYTES = st.binary(max_size=6)
INTS = st.integers(-(2**200), 2**200)
SHORT_INTS = st.integers(-(2**63), 2**64 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
NAIVE = st.datetimes()
ZONES = st.sampled_from(
    [UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Africa/Monrovia"), timezone(timedelta(hours=-3))]
)  # fmt: skip
# A year from either end, so that every one of them has a UTC.
AWARE = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES)
DATETIMES = NAIVE | AWARE
INNER = st.builds(Inner, DATETIMES, st.frozensets(TEXT), st.lists(INTS, max_size=3).map(tuple))
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.builds(Tree, INTS), lambda inner: st.builds(Tree, INTS, st.lists(inner, max_size=3)), max_leaves=6
)
ACCOUNTS = st.builds(
    lambda number, opened, owners, balance, seal: Account(
        accountNumber=number, opened=opened, owners=owners, balance=balance, seal=seal
    ),
    INTS, DATETIMES, st.sets(TEXT), DECIMALS, BYTES,
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | TEXT | st.integers(-(2**63), 2**64 - 1) | FLOATS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)

TYPES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "none": (None, st.none()),
    "bool": (bool, st.booleans()),
    "int": (int, INTS),
    "float": (float, FLOATS),
    "str": (str, TEXT),
    "bytes": (bytes, BYTES),
    "datetime": (datetime, DATETIMES),
    "date": (date, st.dates()),
    "time": (time, st.times()),
    "timedelta": (timedelta, st.timedeltas()),
    "uuid": (uuid.UUID, st.uuids()),
    "decimal": (Decimal, DECIMALS),
    "fraction": (Fraction, st.fractions()),
    "path": (PurePosixPath, st.just(PurePosixPath("a/b"))),
    "address": (IPv4Address, st.ip_addresses(v=4)),
    "enum": (Color, st.sampled_from(Color)),
    "enum of tuples": (Planet, st.sampled_from(Planet)),
    "int enum": (Level, st.sampled_from(Level)),
    "str enum": (Word, st.sampled_from(Word)),
    "flag": (Rights, st.sampled_from([Rights.READ, Rights.READ | Rights.WRITE])),
    "literal": (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    "literal of enum": (Literal["a", Color.RED, b"x"], st.sampled_from(["a", Color.RED, b"x"])),
    "list": (list[Decimal], st.lists(DECIMALS, max_size=3)),
    "tuple": (tuple[int, str, bytes], st.tuples(INTS, TEXT, BYTES)),
    "long tuple": (tuple[date, ...], st.lists(st.dates(), max_size=3).map(tuple)),
    "set": (set[str], st.sets(TEXT, max_size=4)),
    "frozenset": (frozenset[uuid.UUID], st.frozensets(st.uuids(), max_size=4)),
    "set of tuples": (set[tuple[int, str]], st.sets(st.tuples(INTS, TEXT), max_size=4)),
    "set of bytes": (set[bytes], st.sets(BYTES, max_size=4)),
    "deque": (deque[int], st.lists(INTS, max_size=3).map(deque)),
    "sequence": (Sequence[int], st.lists(INTS, max_size=3)),
    "iterable": (Iterable[date], st.lists(st.dates(), max_size=3)),
    "dict": (dict[str, timedelta], st.dictionaries(TEXT, st.timedeltas(), max_size=3)),
    "dict by int": (dict[int, bytes], st.dictionaries(INTS, BYTES, max_size=3)),
    "dict by date": (dict[date, int], st.dictionaries(st.dates(), INTS, max_size=3)),
    "dict by enum": (dict[Color, int], st.dictionaries(st.sampled_from(Color), INTS)),
    "dict by int enum": (dict[Level, int], st.dictionaries(st.sampled_from(Level), INTS)),
    "dict by tuple": (dict[tuple[int, str], int], st.dictionaries(st.tuples(INTS, TEXT), INTS, max_size=3)),
    "dict by frozenset": (dict[frozenset[int], str], st.dictionaries(st.frozensets(INTS, max_size=2), TEXT, max_size=3)),
    "dict by optional": (dict[str | None, int], st.dictionaries(st.none() | TEXT, INTS, max_size=3)),
    "ordered dict": (OrderedDict[str, int], st.dictionaries(TEXT, INTS, max_size=3).map(OrderedDict)),
    "mapping": (Mapping[str, int], st.dictionaries(TEXT, INTS, max_size=3)),
    "optional": (uuid.UUID | None, st.none() | st.uuids()),
    "union": (int | str | None, st.none() | SHORT_INTS | TEXT),
    "union of numbers": (int | float, SHORT_INTS | FLOATS),
    "union of times": (datetime | date, NAIVE | st.dates()),
    "union by literal": (Cat | Dog, st.builds(Cat, TEXT) | st.builds(Dog, TEXT)),
    "named tuple": (Point, st.builds(Point, INTS, st.none() | TEXT)),
    "typed dict": (Row, st.fixed_dictionaries({}, optional={"name": TEXT, "seen": st.sets(INTS, max_size=3)})),
    "dataclass": (Inner, INNER),
    "nested": (Outer, st.builds(Outer, INNER, st.dictionaries(TEXT, INNER, max_size=2), st.none() | SHORT_INTS | TEXT, st.sampled_from(Color))),
    "recursive": (Tree, TREES),
    "generic dataclass": (Page[frozenset[int]], st.builds(Page, st.lists(st.frozensets(INTS, max_size=2), max_size=2))),
    "model": (Account, ACCOUNTS),
    "generic model": (Box[Decimal], DECIMALS.map(lambda content: Box[Decimal](content=content))),
    "list of models": (list[Account], st.lists(ACCOUNTS, max_size=2)),
    "any": (Any, JSON),
    "dict of any": (dict[str, Any], st.dictionaries(TEXT, JSON, max_size=3)),
}  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type. Python takes a time in the hour that comes twice for unequal to the same moment elsewhere."""
    if type(one) is not type(other):
        return False
    if isinstance(one, datetime) and one.tzinfo is not None and other.tzinfo is not None:
        return one.astimezone(UTC) == other.astimezone(UTC)
    if isinstance(one, Inner):
        return same(one.at, other.at) and (one.tags, one.sizes) == (other.tags, other.sizes)
    if isinstance(one, Outer):
        return (
            same(one.inner, other.inner)
            and same(one.by_name, other.by_name)
            and (one.either, one.color) == (other.either, other.color)
        )
    if isinstance(one, Account):
        kept = [each.model_dump(exclude={"opened"}) for each in (one, other)]
        return kept[0] == kept[1] and same(one.opened, other.opened)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
