"""A turn without end is interrupted; nothing is ever raised outside a turn."""

import contextlib
import io
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import structlog

from perdure.actors.errors import TurnInterrupted
from perdure.partitions.watchdog import TurnWatchdog

LIMIT = 0.05


def on_main(run: Callable[[], None]) -> None:
    run()


def on_thread(run: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


@pytest.fixture(params=[on_main, on_thread])
def engine(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[[], None]], None]]:
    before = signal.getsignal(signal.SIGURG)
    yield request.param
    assert before == signal.getsignal(signal.SIGURG)


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def swallow_twice() -> None:
    swallowed = 0
    while swallowed < 2:
        try:
            spin(20)
        except TurnInterrupted:
            swallowed += 1


def spin_and_complain() -> None:
    try:
        spin(20)
    except TurnInterrupted:
        raise KeyError("held") from None


def test_a_turn_without_end_is_interrupted_and_the_next_ones_are_not(engine: Callable[..., None]) -> None:
    def run() -> None:
        watchdog = TurnWatchdog(LIMIT)
        for _ in range(2):
            with pytest.raises(TurnInterrupted):
                watchdog.watch(lambda: spin(20))
        for number in range(2_000):
            assert number == watchdog.watch(lambda number=number: number)
        watchdog.close()

    engine(run)


def test_a_blocking_call_is_interrupted_on_the_main_thread() -> None:
    watchdog = TurnWatchdog(LIMIT)
    began = time.monotonic()
    with pytest.raises(TurnInterrupted):
        watchdog.watch(lambda: time.sleep(20))
    watchdog.close()

    assert time.monotonic() - began < 10


def test_a_turn_that_swallows_the_interrupt_is_interrupted_again_and_does_not_pass(engine: Callable[..., None]) -> None:
    def run() -> None:
        watchdog = TurnWatchdog(LIMIT)
        with pytest.raises(TurnInterrupted):
            watchdog.watch(swallow_twice)
        watchdog.close()

    engine(run)


def test_an_exception_of_the_turn_wins_over_the_interrupt(engine: Callable[..., None]) -> None:
    def run() -> None:
        watchdog = TurnWatchdog(LIMIT)
        with pytest.raises(KeyError):
            watchdog.watch(spin_and_complain)
        watchdog.close()

    engine(run)


def test_no_interrupt_leaks_out_of_turns_that_end_about_the_limit(engine: Callable[..., None]) -> None:
    def run() -> None:
        watchdog = TurnWatchdog(0.004)
        interrupted = 0
        outside = 0
        for number in range(400):
            try:
                watchdog.watch(lambda number=number: spin(0.003 + 0.00001 * (number % 300)))
            except TurnInterrupted:
                interrupted += 1
            outside += 1
            spin(0.0002)  # anything raised here fails the test
        watchdog.close()
        spin(0.02)

        assert outside == 400
        assert interrupted > 10

    engine(run)


def test_a_turn_whose_end_is_interrupted_before_its_first_instruction_is_over_all_the_same(
    engine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = TurnWatchdog._leave
    interrupts = [TurnInterrupted()]

    def interrupted(watchdog: TurnWatchdog, turn: int) -> None:
        if interrupts:
            raise interrupts.pop()
        leave(watchdog, turn)

    def run() -> None:
        watchdog = TurnWatchdog(LIMIT)
        monkeypatch.setattr(TurnWatchdog, "_leave", interrupted)
        watchdog.watch(lambda: None)
        assert not interrupts
        spin(4 * LIMIT)  # anything raised here fails the test
        with pytest.raises(TurnInterrupted):
            watchdog.watch(lambda: spin(20))
        watchdog.close()

    engine(run)


def test_what_cannot_be_interrupted_is_named_in_an_alarm() -> None:
    def blocked_for_a_while() -> None:
        time.sleep(8 * LIMIT)

    with structlog.testing.capture_logs() as logs:

        def run() -> None:
            watchdog = TurnWatchdog(LIMIT)
            with pytest.raises(TurnInterrupted):
                watchdog.watch(blocked_for_a_while)
            watchdog.close()

        on_thread(run)

    assert ["turn.cannot_be_interrupted"] == [entry["event"] for entry in logs]
    assert "blocked_for_a_while" in logs[0]["stack"]


def test_the_stacks_are_dumped_when_not_even_python_threads_can_run() -> None:
    program = f"""
import re
from perdure.partitions.watchdog import TurnWatchdog

def catastrophe():
    re.match(r"(a+)+$", "a" * 25 + "b")

TurnWatchdog({LIMIT}, dump_stacks=True).watch(catastrophe)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)

    assert "in catastrophe" in done.stderr


def test_what_an_activity_puts_in_the_place_of_stderr_stops_no_watchdog() -> None:
    """As one does that captures its output, for the whole process."""
    with contextlib.redirect_stderr(io.StringIO()):
        nowhere = TurnWatchdog(LIMIT, dump_stacks=True)
    watchdog = TurnWatchdog(LIMIT, dump_stacks=True)
    with contextlib.redirect_stderr(io.StringIO()):
        for each in (nowhere, watchdog):
            spin(4 * LIMIT)
            with pytest.raises(TurnInterrupted):
                each.watch(lambda: spin(20))
    watchdog.close()
    nowhere.close()


def test_entering_and_leaving_costs_less_than_a_microsecond_of_cpu() -> None:
    watchdog = TurnWatchdog(5.0)
    best = min(_cost(watchdog) for _ in range(20))
    watchdog.close()

    assert best < 2e-6  # twice the aim, for a busy machine


def _cost(watchdog: TurnWatchdog) -> float:
    began = time.thread_time()
    for _ in range(5_000):
        watchdog.watch(int)
    return (time.thread_time() - began) / 5_000
