"""Producers that are made ahead: the oldest first, one for each that is taken, and none is left over."""

import time
from collections.abc import Callable
from itertools import count
from typing import cast

import pytest
from confluent_kafka import Producer

from perdure.partitions.kafka.spares import SpareProducers

PLENTY_SECONDS = 20.0


class Workshop:
    """Makes numbers for producers."""

    def __init__(self) -> None:
        self.ready: list[int] = []
        self.in_haste: list[int] = []
        self.let_go: list[int] = []
        numbers = count()

        def make(made: list[int]) -> Callable[[], Producer]:
            def one() -> Producer:
                made.append(next(numbers))
                return cast("Producer", made[-1])

            return one

        self.spares = SpareProducers(
            make(self.ready), make(self.in_haste), lambda spare: self.let_go.append(cast("int", spare))
        )


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PLENTY_SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_the_oldest_is_taken_first_and_another_one_made_for_it(workshop: Workshop) -> None:
    workshop.spares.keep(2)
    until(lambda: workshop.ready == [0, 1])

    assert 0 == workshop.spares.take()
    until(lambda: workshop.ready == [0, 1, 2])
    assert 1 == workshop.spares.take()
    assert [] == workshop.in_haste
    workshop.spares.close()


def test_without_one_it_is_made_at_once(workshop: Workshop) -> None:
    assert 0 == workshop.spares.take()
    assert ([0], []) == (workshop.in_haste, workshop.ready)


def test_none_is_left_over(workshop: Workshop) -> None:
    workshop.spares.keep(3)
    until(lambda: workshop.ready == [0, 1, 2])
    workshop.spares.take()
    workshop.spares.close()

    until(lambda: sorted([0, *workshop.let_go]) == sorted(workshop.ready))


def test_those_that_may_have_stalled_are_let_go_of_and_others_made(workshop: Workshop) -> None:
    workshop.spares.keep(2)
    until(lambda: workshop.ready == [0, 1])

    workshop.spares.renew()
    assert [0, 1] == workshop.let_go
    until(lambda: workshop.ready == [0, 1, 2, 3])
    assert 2 == workshop.spares.take()
    workshop.spares.close()
