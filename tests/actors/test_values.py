"""Values come back as they were, by their annotation; without one, only what JSON holds exactly may pass."""

import enum
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_serializer, field_validator

from perdure import App, OrchestrationContext, ValueRefused
from perdure.actors.exactness import DEPTH_MAX
from perdure.actors.values import UNANNOTATED, Codec, decode_plain, encode_plain
from perdure.errors import OrchestrationFailed
from perdure.testing import run
from tests.actors.value_types import JSON, TYPES, Color, Inner, Outer, Page, Tree, same

PLAIN = Codec(UNANNOTATED, "it")


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
@settings(max_examples=80)
def test_a_value_comes_back_as_it_was_by_its_annotation(name: str, data: st.DataObject) -> None:
    annotation, values = TYPES[name]
    codec, value = Codec(annotation, name), data.draw(values)

    encoded = codec.encode(value)

    assert same(value, codec.decode(encoded))
    orjson.loads(encoded) if len(encoded) < 19 else decode_plain(encoded)


@given(JSON)
@settings(max_examples=300)
def test_an_unannotated_value_of_json_comes_back_as_it_was(value: Any) -> None:
    back = decode_plain(encode_plain(value))

    assert (value, repr(value)) == (back, repr(back))


@dataclass
class Money:
    amount: int


class Coin(enum.IntEnum):
    PENNY = 1


CHANGED: dict[str, tuple[Any, str, str]] = {
    "tuple": ({"a": [1, (2, 3)]}, "$.a[1]", "a tuple, which JSON would make a list"),
    "set": ([{1}], "$[0]", "a set, which JSON does not have"),
    "frozenset": (frozenset(), "$", "a set, which JSON does not have"),
    "integer key": ({"a": {1: "x"}}, "$.a", "a key that is not a string: 1"),
    "none key": ({None: 1}, "$", "a key that is not a string: None"),
    "nan": ([0.5, float("nan")], "$[1]", "nan has no JSON"),
    "infinity": ({"x y": float("-inf")}, "$['x y']", "-inf has no JSON"),
    "lone surrogate": ({"a": ["b\ud800"]}, "$.a[0]", "a string with a lone surrogate"),
    "lone surrogate as key": ({"\udfff": 1}, "$", "a string with a lone surrogate"),
    "large integer": ({"n": 2**64}, "$.n", "an integer beyond 64 bits: 18446744073709551616; annotate it as int"),
    "small integer": ([-(2**63) - 1], "$[0]", "an integer beyond 64 bits"),
    "bytes": ({"raw": b"x"}, "$.raw", "a value of type bytes"),
    "datetime": ({"at": datetime(2026, 1, 1)}, "$.at", "a value of type datetime"),
    "decimal": ([Decimal(1)], "$[0]", "a value of type Decimal"),
    "uuid": ([UUID(int=1)], "$[0]", "a value of type UUID"),
    "enum": ([Color.RED], "$[0]", "a value of type Color"),
    "int enum": ([Coin.PENNY], "$[0]", "a value of type Coin"),
    "dataclass": ([Money(1)], "$[0]", "a value of type Money"),
    "object": ([object()], "$[0]", "a value of type object"),
    "subclass of str": ([type("Name", (str,), {})("x")], "$[0]", "a value of type Name"),
    "subclass of dict": ([type("Bag", (dict,), {})()], "$[0]", "a value of type Bag"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_an_unannotated_value_that_json_would_change_is_refused_with_its_path(case: str) -> None:
    value, path, reason = CHANGED[case]

    with pytest.raises(ValueRefused) as caught:
        PLAIN.encode(value)

    assert path == caught.value.path
    assert f"it: {path}: {reason}" in str(caught.value)


@pytest.mark.parametrize("annotation", [Any, object, list, dict, list[Any], dict[str, Any], Page[Any]])
@pytest.mark.parametrize("inner", [(1, 2), datetime(2026, 1, 1), {1}, b"\xff", Decimal("1.0")])
def test_a_part_without_an_annotation_is_refused_inside_what_has_one(annotation: Any, inner: Any) -> None:
    shapes = {
        list: [inner],
        list[Any]: [inner],
        dict: {"a": inner},
        dict[str, Any]: {"a": inner},
        Page[Any]: Page([inner]),
    }
    value = shapes.get(annotation, inner)

    with pytest.raises(ValueRefused) as caught:
        Codec(annotation, "it").encode(value)

    paths = {list: "$[0]", list[Any]: "$[0]", dict: "$.a", dict[str, Any]: "$.a", Page[Any]: "$.items[0]"}
    assert paths.get(annotation, "$") == caught.value.path


@pytest.mark.parametrize(
    ("annotation", "value", "path"),
    [
        (int, "5", "$"),
        (list[int], [1, "2"], "$[1]"),
        (Outer, Outer(Inner(datetime(2026, 1, 1)), by_name={"a": Inner("now")}), "$.by_name.a.at"),  # type: ignore[arg-type]
        (Money, {"amount": 1}, "$"),
        (dict[str, list[Money]], {"a": [Money(1), Money("2")]}, "$.a[1].amount"),  # type: ignore[arg-type]
        (tuple[int, str], (1, 2), "$[1]"),
        (float, float("inf"), "$"),
        (list[float], [1.0, float("nan")], "$[1]"),
        (Decimal, Decimal("NaN"), "$"),
        (list[str], ["a", "\ud800"], "$[1]"),
    ],
)
def test_a_value_that_does_not_fit_its_annotation_is_refused_with_its_path(
    annotation: Any, value: Any, path: str
) -> None:
    with pytest.raises(ValueRefused) as caught:
        Codec(annotation, "it").encode(value)

    assert path == caught.value.path
    assert str(caught.value).startswith("it: $")


@pytest.mark.parametrize(
    ("annotation", "data", "message"),
    [
        (int, b'"five"', "$: Input should be a valid integer"),
        (Page[int], b'{"items": [1, "x"]}', "$.items[1]: Input should be a valid integer"),
        (Page[int], b"{}", "$.items: Field required"),
        (int, b"[1", "not JSON"),
        (UNANNOTATED, b"[1", "not JSON"),
        (UNANNOTATED, b"\xff", "not JSON"),
        (bytes, b'"!"', "base64"),
    ],
)
def test_json_that_does_not_fit_is_refused_with_its_path(annotation: Any, data: bytes, message: str) -> None:
    with pytest.raises(ValueRefused, match=r"^it: ") as caught:
        Codec(annotation, "it").decode(data)

    assert message in str(caught.value)


def test_types_that_look_alike_in_json_are_refused_with_what_tells_them_apart() -> None:
    @dataclass
    class Circle:
        size: float

    @dataclass
    class Square:
        size: float

    codec = Codec(Circle | Square, "it")

    assert Circle(1.0) == codec.decode(codec.encode(Circle(1.0)))
    with pytest.raises(
        ValueRefused, match=r"Square\) would come back as .*Circle\); annotate it, or .* a Literal field"
    ):
        codec.encode(Square(1.0))


def test_the_hour_that_comes_twice_is_told_apart_and_no_zone_is_needed_to_read_it() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first, second = (datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1))
    codec = Codec(Inner, "it")

    back = [codec.decode(codec.encode(Inner(moment))).at for moment in (first, second)]

    assert [moment.astimezone(UTC) for moment in (first, second)] == [moment.astimezone(UTC) for moment in back]
    assert 3600 == (back[1] - back[0]).total_seconds()


def test_integers_of_any_size_are_read_exactly_also_without_an_annotation() -> None:
    value = {"n": [10**30, -(2**63) - 1], "text": "123456789012345678901234567890"}
    data = Codec(dict[str, list[int] | str], "it").encode(value)

    assert value == decode_plain(data)
    with pytest.raises(ValueRefused, match="NaN is not JSON"):
        decode_plain(b"[1234567890123456789012, NaN]")
    with pytest.raises(ValueRefused, match="Exceeds the limit"):
        Codec(int, "it").encode(10**5_000)
    with pytest.raises(ValueRefused):
        decode_plain(b"1" * 5_000)


# What an author's own types do while they are read or written.


@dataclass
class Picky:
    size: int

    def __post_init__(self) -> None:
        if self.size > 5:
            raise KeyError("too large")


class PickyModel(BaseModel):
    size: int

    @field_validator("size")
    @classmethod
    def check(cls, size: int) -> int:
        return 10 // size

    @field_serializer("size")
    def show(self, size: int) -> int:
        return {1: 1, 10: 10}[size]


@pytest.mark.parametrize(
    ("annotation", "data", "message"),
    [
        (Picky, b'{"size": 6}', "KeyError while it was read or written: 'too large'"),
        (list[Picky], b'[{"size": 6}]', "KeyError while it was read or written"),
        (PickyModel, b'{"size": 0}', "ZeroDivisionError while it was read or written"),
    ],
)
def test_what_a_type_raises_while_it_is_read_is_a_refusal(annotation: Any, data: bytes, message: str) -> None:
    with pytest.raises(ValueRefused, match=f"^it: {re.escape(message)}"):
        Codec(annotation, "it").decode(data)


def test_what_a_type_raises_while_it_is_written_is_a_refusal() -> None:
    with pytest.raises(ValueRefused, match="KeyError"):
        Codec(PickyModel, "it").encode(PickyModel(size=2))


def test_a_value_whose_type_raises_while_it_is_read_fails_its_instance_and_no_partition() -> None:
    app = App()

    @app.activity
    def small() -> int:
        return 6

    @app.orchestration
    async def result(ctx: OrchestrationContext) -> Any:
        return await ctx.call_activity("small", return_type=int) and await ctx.call_activity("sized", return_type=Picky)

    @app.activity
    def sized() -> dict[str, int]:
        return {"size": 6}

    @app.orchestration
    async def event(ctx: OrchestrationContext) -> Any:
        return await ctx.wait_for_external_event("go", data_type=Picky)

    @app.orchestration
    async def given(ctx: OrchestrationContext, value: Picky) -> int:
        return value.size

    @app.orchestration
    async def returned(ctx: OrchestrationContext) -> PickyModel:
        return PickyModel(size=2)

    with run(app, partitions=1) as env:
        waiting = env.start(event)
        waiting.raise_event("go", {"size": 6})
        for handle in (env.start(result), waiting, env.start("given", {"size": 6}), env.start(returned)):
            with pytest.raises(
                OrchestrationFailed, match=r"ValueRefused: .*while it was read or written|ValueRefused: .*KeyError"
            ):
                handle.result()
        assert 5 == env.run("given", {"size": 5})


# Depth.


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def chain(depth: int) -> Tree:
    tree = Tree(0)
    for number in range(depth):
        tree = Tree(number, [tree])
    return tree


@pytest.mark.parametrize("depth", [DEPTH_MAX + 1, 300, 2_000, 50_000])
def test_a_value_that_is_nested_too_deep_is_refused_and_nothing_overflows(depth: int) -> None:
    for codec, value in (
        (PLAIN, nested(depth)),
        (Codec(Any, "it"), nested(depth)),
        (Codec(list[Any], "it"), nested(depth)),
    ):
        with pytest.raises(ValueRefused, match=f"nested more than {DEPTH_MAX} deep"):
            codec.encode(value)
    with pytest.raises(ValueRefused, match=f"nested more than {DEPTH_MAX} deep"):
        Codec(Tree, "it").encode(chain(depth))


def test_a_value_of_the_greatest_depth_comes_back() -> None:
    assert nested(DEPTH_MAX) == PLAIN.decode(PLAIN.encode(nested(DEPTH_MAX)))
    assert nested(DEPTH_MAX) == Codec(list[Any], "it").decode(Codec(list[Any], "it").encode(nested(DEPTH_MAX)))


@pytest.mark.parametrize("annotation", [UNANNOTATED, list[Any], Tree, int])
@pytest.mark.parametrize("depth", [2_000, 100_000])
def test_json_that_is_nested_without_end_is_refused(annotation: Any, depth: int) -> None:
    for data in (
        b"[" * depth + b"]" * depth,
        b'{"value":1,"children":[' * depth + b"]}" * depth,
        b"1" * 30 + b"[" * depth,
    ):
        with pytest.raises(ValueRefused, match=r"^it: "):
            Codec(annotation, "it").decode(data)


# Definitions.


def test_types_that_are_defined_further_down_are_looked_up_when_they_are_needed() -> None:
    app = App()

    @app.activity
    def price(order: "Order") -> "Order":
        return order

    codec = price.input_codec
    order = Order(lines=[Line(sku="a", tags={"b", "a"})])

    assert order == codec.decode(codec.encode(order))


def test_a_type_that_has_no_json_is_refused_where_it_is_declared_and_named() -> None:
    class Socket:
        pass

    def send(socket: Socket) -> None: ...

    with pytest.raises(TypeError, match=r"activity 'send', parameter 'socket': values of .*Socket.* have no JSON"):
        App().activity(send)


class Order(BaseModel):
    lines: "list[Line]"


class Line(BaseModel):
    sku: str
    tags: set[str]
