"""`make chaos MINUTES=… SEED=…`: real workers on real brokers under every kind of fault, and a verdict.

Exit 1 where anything was lost, done twice or stuck, where a fault that was planned did not happen, or where there is no broker.
"""

import argparse
import asyncio
import faulthandler
import logging
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.broker import LocalBroker, NoBroker, own_broker
from tests.brokers import proxied_broker, three_brokers
from tests.checkers.evidence import Violation

from .crashes import all_cases, embedded_ground, kafka_ground, try_cases
from .disk_faults import OF_SMALL_DISKS
from .disks import can_mount
from .storm import (
    Site,
    flood_of_starts,
    rage,
    storm_from_within,
    storm_of_trims,
    storm_on_one,
    storm_on_the_way,
    storm_on_three,
)
from .tally import Tally
from .verdict import Verdict

REPORT = Path("build/chaos.md")
HITS = 2
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Terms:
    """`seconds` for each storm."""

    seed: int
    seconds: float


def try_points(terms: Terms) -> list[Verdict]:
    """Every crash point, on both kinds of log."""
    cases = list(all_cases(["embedded", "kafka"], HITS, terms.seed))
    with one_broker() as site:
        grounds = {"embedded": embedded_ground, "kafka": kafka_ground(site.servers)}
        return asyncio.run(try_cases(cases, grounds, AT_ONCE))


def try_one(terms: Terms) -> list[Verdict]:
    """Workers, disks and inboxes on one broker."""
    with one_broker() as site:
        weather = storm_on_one(terms.seed, terms.seconds, small_disk=can_mount())
        return [asyncio.run(rage(weather, site))]


def try_network(terms: Terms) -> list[Verdict]:
    """A bad network between workers and their broker."""
    broker = proxied_broker()
    try:
        site = Site(broker.servers, proxy=broker.proxy, through=broker.through)
        return [asyncio.run(rage(storm_on_the_way(terms.seed, terms.seconds), site))]
    finally:
        broker.stop()


def try_trims(terms: Terms) -> list[Verdict]:
    """A hub that trims its logs, on a broker that is killed."""
    with one_broker() as site:
        return [asyncio.run(rage(storm_of_trims(terms.seed, terms.seconds), site))]


def try_within(terms: Terms) -> list[Verdict]:
    """Code that kills its process, and a flood."""
    with one_broker() as site:
        weathers = [storm_from_within(terms.seed, terms.seconds / 2), flood_of_starts(terms.seed, terms.seconds / 2)]
        return [asyncio.run(rage(weather, site)) for weather in weathers]


def try_three(terms: Terms) -> list[Verdict]:
    """Three brokers that are killed, frozen and restarted."""
    brokers = three_brokers()
    try:
        return [asyncio.run(rage(storm_on_three(terms.seed, terms.seconds), Site(brokers.servers, brokers)))]
    finally:
        brokers.stop()


CHAPTERS: Mapping[str, Callable[[Terms], list[Verdict]]] = {
    "one": try_one,
    "network": try_network,
    "three": try_three,
    "trims": try_trims,
    "within": try_within,
    "points": try_points,
}


def try_chapter(name: str, terms: Terms) -> list[Verdict]:
    """A chapter that breaks is a failure, and the others are tried all the same. Raises NoBroker."""
    try:
        return CHAPTERS[name](terms)
    except NoBroker:
        raise
    except Exception as error:  # noqa: BLE001 - it is told with all the rest
        traceback.print_exc()
        return [Verdict(name, [Violation("C18", f"it broke: {error!r}")], Counter())]


@contextmanager
def one_broker() -> Iterator[Site]:
    broker = own_broker()
    try:
        yield Site(broker.servers, broker=broker if isinstance(broker, LocalBroker) else None)
    finally:
        broker.stop()


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    options.add_argument("--minutes", type=float, default=10, help="how long the storms last together")
    options.add_argument("--seed", type=int, help="a fresh one by default")
    options.add_argument("--only", choices=CHAPTERS, action="append", help="a part of it; all by default")
    given = options.parse_args()
    faulthandler.register(signal.SIGUSR1)
    logging.getLogger().addHandler(logging.NullHandler())  # clients complain of what we do to their brokers
    chapters: Sequence[str] = given.only or list(CHAPTERS)
    seed = given.seed if given.seed is not None else time.time_ns() // 1_000_000 % 10**9
    storms = len([chapter for chapter in chapters if chapter != "points"]) or 1
    terms = Terms(seed, given.minutes * 60 / storms)
    title = f"chaos: {', '.join(chapters)}, storms of {terms.seconds:.0f} s, seed {seed}, {commit()}"
    print(title, flush=True)
    tally = Tally(began=time.monotonic())
    try:
        for chapter in chapters:
            tally.take(chapter, try_chapter(chapter, terms))
    except NoBroker as error:
        print(f"no Kafka here: {error}")
        return 1
    lines = [title, "", *left_out(chapters), *tally.lines()]
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text("\n".join(lines) + "\n")
    print("\n".join(["", *lines[2:]]), flush=True)
    return 0 if tally.good else 1


def left_out(chapters: Sequence[str]) -> Iterator[str]:
    """Faults that cannot be made to happen here; a verdict says nothing of them."""
    if "one" in chapters and not can_mount():
        yield f"left out, since only root can make a small file system: {', '.join(OF_SMALL_DISKS)}"


def commit() -> str:
    """The state of the tree that is tried."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"commit {found.stdout.strip()}" if found.returncode == 0 else "no commit"


if __name__ == "__main__":
    sys.exit(main())
