"""What is written to an inbox does not speak for the engine, and nothing of the engine's is taken for it (R7)."""

import json

import pytest

from perdure.schemas import messages as ms
from perdure.schemas.codec import encode_inbound
from perdure.schemas.events import Parent
from perdure.schemas.messages import Inbound, Origin, Start
from tests.partitions.cluster import Cluster

PARTITIONS = 2


def family() -> Cluster:
    """A parent on one partition that waits for a child on the other one."""
    cluster = Cluster(PARTITIONS, automatic=False)
    cluster.join()
    child = next(name for name in ("c-1", "c-2", "c-3", "c-4") if cluster.home_of(name) != cluster.home_of("parent"))
    cluster.send("parent", Start("family", json.dumps([child]).encode()))
    cluster.until(lambda: cluster.members[0].pool.running_count(1 - cluster.home_of("parent")))
    return cluster


def reasons(cluster: Cluster) -> list[str]:
    cluster.until(cluster.dead_letters)
    return [headers["perdure-reason"] for headers, _ in cluster.dead_letters()]


@pytest.mark.parametrize("topic_id", ["", "00000000-0000-0000-0000-000000000000", "memory.history"])
def test_a_forged_origin_takes_no_sequence_from_the_engine(topic_id: str) -> None:
    """R7: what comes under a sequence that was taken is dropped as a duplicate, so nobody else may take one."""
    cluster = family()
    home = cluster.home_of("parent")
    for sequence in (1, 2, 3):
        origin = Origin(topic_id, 1 - home, sequence)
        cluster.put(encode_inbound(Inbound("parent", ms.Suspend(), origin=origin)), home)

    assert len(reasons(cluster)) == 3
    assert all(reason.startswith("its origin is partition") for reason in reasons(cluster))
    cluster.members[0].pool.finish()
    cluster.until(lambda: cluster.ended()["parent"])
    assert "COMPLETED" == cluster.view("parent")["status"]
    assert 0 == cluster.members[0][home].counts.duplicates
    cluster.check()


def forgeries(cluster: Cluster) -> list[ms.Body]:
    """What only the engine says, as right in all its fields as a client can see them."""
    execution = cluster.view("parent")["execution_id"]
    return [
        ms.TaskResult(execution, 1, 1, b'"forged"'),
        ms.ChildResult(execution, 1, 1, b'"forged"'),
        ms.Start("idle", b'"forged"', parent=Parent("parent", execution, 1, 1)),
    ]


@pytest.mark.parametrize("number", range(3), ids=["task-result", "child-result", "start-by-a-parent"])
@pytest.mark.parametrize("misplaced", [False, True])
def test_what_only_the_engine_says_is_not_taken_from_others(number: int, misplaced: bool) -> None:
    """Not even where the engine itself would pass it on, from the wrong partition and with an origin of its own (R9)."""
    cluster = family()
    body = forgeries(cluster)[number]
    name = "stranger" if isinstance(body, Start) else "parent"
    home = cluster.home_of(name)
    cluster.put(encode_inbound(Inbound(name, body)), 1 - home if misplaced else home)

    assert all("from the engine alone" in reason for reason in reasons(cluster))
    assert "RUNNING" == cluster.view("parent")["status"]
    assert {} == cluster.view("stranger")
    cluster.members[0].pool.finish()
    cluster.until(lambda: cluster.ended()["parent"])
    cluster.check()


def test_nobody_takes_the_id_of_a_request_of_the_engine() -> None:
    """A child whose start was answered for, or an event that seems to have come, would be missed for ever."""
    cluster = Cluster(PARTITIONS)
    cluster.join()
    execution = "0-1"
    for sent in (f"/parent/{execution}/1/1", f"/parent/{execution}/1", "/"):
        request = cluster.send("c-1", Start("idle", b'"mine"'), request_id=sent)
        cluster.settle()
        assert [] == cluster.replies(request)
    assert {"a request id does not begin with '/': those are the engine's own"} == set(reasons(cluster))


def test_an_instance_of_the_childs_name_does_not_stand_for_the_child() -> None:
    """The request id that its parent will use, without what marks the engine's: the parent's start is still a start of its own."""
    cluster = Cluster(1)
    cluster.join()
    cluster.until(cluster.members[0].owns)
    cluster.send("c-1", Start("idle", b'"mine"'), request_id="parent/2-1/1/1")
    cluster.settle()
    cluster.send("parent", Start("family", b'["c-1"]'))
    cluster.until(lambda: cluster.ended()["parent"])

    assert ["c-1"] == cluster.view("parent")["result"]
    cluster.check()
