"""One hub for each way in, shared by the tests that leave it as it was."""

from collections.abc import Iterator

import pytest

from perdure.client import Client
from tests.client.ways import InProcess, OverHttp, OverKafka, OverServe, Way

WAYS = [
    "in-process",
    "http",
    pytest.param("kafka", marks=pytest.mark.kafka),
    pytest.param("serve", marks=pytest.mark.kafka),
]


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    directory = tmp_path_factory.mktemp("hub")
    way: Way
    match request.param:
        case "in-process":
            way = InProcess(directory)
        case "http":
            way = OverHttp(directory)
        case "kafka":
            way = OverKafka(directory, request.getfixturevalue("kafka_servers"))
        case _:
            way = OverServe(directory, request.getfixturevalue("kafka_servers"))
    yield way
    way.close()


@pytest.fixture(scope="module")
def client(way: Way) -> Iterator[Client]:
    with way.connect() as client:
        yield client
