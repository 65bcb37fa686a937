"""How much a client may send, and what it gets back of it: the same over every way in."""

from uuid import uuid4

import pytest

from perdure.actors.limits import DEFAULT_LIMITS
from perdure.client import Client
from perdure.errors import InvalidRequest, OrchestrationFailed, PayloadTooLarge
from tests.client.hub import LIMIT, big, echo, family, greedy, listen


def text_of(size: int) -> str:
    """A string whose JSON has so many bytes."""
    return "x" * (size - 2)


def test_a_payload_of_exactly_the_limit_goes_through_and_one_byte_more_is_refused(client: Client) -> None:
    largest = text_of(LIMIT)
    handle = client.start(echo, largest)

    assert largest == handle.result(60)
    instance = handle.get()
    assert (largest, largest) == (instance.input, instance.result)
    with pytest.raises(PayloadTooLarge, match=f"{LIMIT + 1} bytes.*{LIMIT}"):
        client.start(echo, text_of(LIMIT + 1))


def test_an_event_and_a_reason_of_exactly_the_limit_go_through(client: Client) -> None:
    largest, reason = text_of(LIMIT), "r" * DEFAULT_LIMITS.reason_chars_max
    listening, ended = client.start(listen), client.start(listen)
    listening.raise_event("go", largest)
    ended.terminate(reason)

    assert largest == listening.result(60)
    assert reason == ended.wait(60).result
    with pytest.raises(PayloadTooLarge, match="event 'go'"):
        listening.raise_event("go", text_of(LIMIT + 1))
    with pytest.raises(InvalidRequest, match="at most 4000 characters, this one 4001"):
        ended.terminate(reason + "r")


def test_a_child_on_another_partition_takes_and_gives_the_limit(client: Client) -> None:
    largest = text_of(LIMIT)

    assert [len(largest)] * 3 == client.start(family, largest).result(60)


def test_a_history_of_large_turns_is_read_whole(client: Client) -> None:
    largest = text_of(LIMIT)
    handle = client.start(family, largest)
    handle.result(60)
    events = [event for turn in handle.history().turns for event in turn["events"]]

    assert 3 == sum(
        event["type"] == "SubOrchestrationInstanceCompleted" and event["result"] == largest for event in events
    )


def test_a_list_of_large_instances_comes_in_pages(client: Client) -> None:
    prefix, largest = f"large-{uuid4().hex[:8]}", text_of(LIMIT)
    for number in range(8):
        client.start(echo, largest, instance_id=f"{prefix}-{number}").wait(60)
    listed = list(client.list_all(prefix=prefix))

    assert {f"{prefix}-{number}" for number in range(8)} == {instance.instance_id for instance in listed}
    assert 8 == len(listed)


def test_what_is_too_large_in_sum_is_refused_before_it_is_sent(client: Client) -> None:
    events = [("go", text_of(LIMIT // 2))] * 3
    with pytest.raises(PayloadTooLarge, match="in all"):
        client.start(listen, events=events)
    with pytest.raises(InvalidRequest, match="reason has at most"):
        client.start(listen).cancel("x" * 2 * LIMIT)
    with pytest.raises(InvalidRequest, match="tags of an instance have at most"):
        client.start(listen, tags={f"{number}": "ä" * 200 for number in range(60)})


def test_a_result_over_the_limit_fails_its_activity_with_both_sizes(client: Client) -> None:
    with pytest.raises(OrchestrationFailed, match=f"{LIMIT + 1} bytes.*{LIMIT}"):
        client.start(greedy, LIMIT + 1).result(60)
    assert LIMIT - 2 == client.start(greedy, LIMIT).result(60)


def test_an_integer_that_came_as_json_is_kept_or_refused_and_never_rounded(client: Client) -> None:
    huge = 2**70 + 1

    assert huge + 1 == client.start(big, huge).result(60)
    with pytest.raises(InvalidRequest, match="64 bits"):
        client.start(echo, huge)
