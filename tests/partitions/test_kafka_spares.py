"""Producers that are made ahead: the oldest first, and what is missing one after the other."""

from itertools import count
from typing import cast

from confluent_kafka import Producer

from perdure.partitions.kafka.spares import REFILL_SECONDS, SpareProducers


def numbered(wanted: int) -> tuple[SpareProducers, list[int]]:
    made: list[int] = []
    numbers = count()

    def make() -> Producer:
        made.append(next(numbers))
        return cast("Producer", made[-1])

    return SpareProducers(make, wanted), made


def test_the_oldest_is_taken_first_and_without_one_a_new_one_is_made() -> None:
    spares, made = numbered(2)

    assert [0, 1] == made
    assert [0, 1, 2] == [spares.take() for _ in range(3)]


def test_what_is_missing_is_made_one_after_the_other() -> None:
    spares, made = numbered(3)
    for _ in range(3):
        spares.take()
    for now in (1.0, 1.0, 1.0 + REFILL_SECONDS, 2.0, 3.0):
        spares.refill(now)

    assert [0, 1, 2, 3, 4, 5] == made
    assert [3, 4, 5] == spares.take_all()


def test_once_all_are_taken_back_none_is_made() -> None:
    spares, made = numbered(1)
    spares.take_all()
    spares.refill(1.0)

    assert [0] == made
