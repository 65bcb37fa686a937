"""What the command line says of partitions that nobody owns."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.partitions.partitioner import partition_of
from tests.cli.conftest import Done, perdure
from tests.client.hub import PARTITIONS, listen
from tests.client.ways import OverHttp
from tests.e2e.workers import until


@pytest.fixture
def way(tmp_path: Path) -> Iterator[OverHttp]:
    way = OverHttp(tmp_path)
    yield way
    way.close()


def test_a_list_names_the_partitions_that_were_silent_and_exits_7_where_all_were(way: OverHttp, tmp_path: Path) -> None:
    names = {partition_of(name, PARTITIONS): name for name in map("home-{}".format, range(40))}
    with way.connect() as client:
        for name in names.values():
            client.start(listen, instance_id=name)

    def ask(*arguments: str) -> Done:
        return perdure(
            "list",
            "--url",
            way.server.url,
            *arguments,
            cwd=tmp_path,
            PERDURE_TOKEN="secret",
            PERDURE_REQUEST_TIMEOUT="3",
        )

    way.stop_worker()
    way.restart_worker(partitions=(0, 1))
    # An owner that is busy may be silent too, but not for ever.
    until(lambda: (done := ask("--json")).code == 0 and [2] == done.json["silent"])
    told: list[Done] = []
    until(lambda: told.append(ask()) or "partitions 2 did not answer" in told[-1].err)
    done = told[-1]
    way.stop_worker()
    none = ask()

    assert 0 == done.code
    assert {names[0], names[1]} == {row.split()[0] for row in done.out.splitlines()[1:]}
    assert "partitions 2 did not answer; what they hold is missing" in done.err
    assert (7, "") == (none.code, none.out)
    assert f"none of the {PARTITIONS} partitions answered; is a worker running?" in none.err
    way.restart_worker()
