"""Every verb as a program and a person meet it, on a `perdure dev` that the command finds by itself."""

import json
import re
import socket
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

import pytest

from perdure import audit
from perdure.audit import ExportTrimmed
from perdure.partitions.ports import LogTruncated
from tests.cli.conftest import APP, RunningDev


def new_id() -> str:
    return f"i-{uuid4().hex[:8]}"


def test_start_prints_the_id_and_wait_the_result(dev: RunningDev) -> None:
    started = dev("start", "welcome", "--input", '["Ada", "Grace"]')
    waited = dev("wait", started.out.strip())

    assert (0, "", 0) == (started.code, started.err, waited.code)
    assert '["hello Ada","hello Grace"]\n' == waited.out


def test_start_and_wait_in_one(dev: RunningDev) -> None:
    done = dev("start", "welcome", "--input", "-", "--wait", stdin='["Ada"]')

    assert (0, '["hello Ada"]\n') == (done.code, done.out)


def test_input_comes_from_a_file_too(dev: RunningDev) -> None:
    (dev.directory / "names.json").write_text('["Ada"]')

    assert ["hello Ada"] == dev("start", "welcome", "--input", "@names.json", "--wait").json


def test_start_takes_every_option(dev: RunningDev) -> None:
    name = new_id()
    started = dev(
        "start", "listen", "--id", name, "--tag", "team=a", "--tag", "n=1", "--at", "+1h", "--event", 'go="early"',
        "--request-id", "r-1", "--json",
    )  # fmt: skip
    again = dev("start", "listen", "--id", name, "--at", "+1h", "--request-id", "r-1", "--json")
    taken = dev("start", "listen", "--id", name)
    returned = dev("start", "listen", "--id", name, "--if-exists", "return")
    found = dev("get", name, "--json").json

    assert (name, True, None) == (started.json["instance_id"], started.json["created"], started.json["held"])
    assert started.json == again.json
    assert (8, "") == (taken.code, taken.out)
    assert "--if-exists return to get it back" in taken.err
    assert (0, f"{name}\n") == (returned.code, returned.out)
    assert "given back" in returned.err
    assert ({"team": "a", "n": "1"}, "PENDING") == (found["tags"], found["status"])
    sooner = ("--if-exists", "replace", "--replace-status", "pending", "--at", "+1s", "--event", 'go="early"')
    assert 0 == dev("start", "listen", "--id", name, *sooner).code
    assert '"early"\n' == dev("wait", name).out
    assert 0 == dev("start", "listen", "--id", name, "--if-exists", "replace", "--event", "go=2").code
    assert "2\n" == dev("wait", name).out


def test_replace_ends_what_it_names(dev: RunningDev) -> None:
    name = new_id()
    dev("start", "listen", "--id", name)
    refused = dev("start", "listen", "--id", name, "--if-exists", "replace")
    assert "and of another where --replace-status names its status" in refused.err
    replaced = dev("start", "listen", "--id", name, "--if-exists", "replace", "--replace-status", "running", "--json")

    assert (8, True) == (refused.code, replaced.json["created"])


def test_an_event_is_raised_and_the_instance_ends(dev: RunningDev) -> None:
    name = new_id()
    dev("start", "listen", "--id", name)
    raised = dev("raise", name, "GO", "--input", '{"n": 1}')

    assert (0, "") == (raised.code, raised.out)
    assert {"n": 1} == dev("wait", name).json


def test_get_shows_a_person_everything_and_a_program_the_document(dev: RunningDev) -> None:
    name = new_id()
    dev("start", "listen", "--id", name, "--tag", "team=a")
    shown = dev("get", name)
    document = dev("get", name, "--json").json

    for word in (name, "listen", "RUNNING", '"listening"', "team=a"):
        assert word in shown.out
    assert (name, "RUNNING", "listening", {"team": "a"}) == (
        document["instance_id"], document["status"], document["custom_status"], document["tags"],
    )  # fmt: skip


def test_history_is_turns_for_people_and_what_replay_reads_for_programs(dev: RunningDev) -> None:
    name = dev("start", "welcome", "--input", '["Ada"]').out.strip()
    dev("wait", name)
    shown = dev("history", name)
    document = dev("history", name, "--json").json

    events = [event["type"] for turn in document["turns"] for event in turn["events"]]
    assert ["ExecutionStarted", "TaskScheduled", "TaskCompleted", "ExecutionCompleted"] == events
    for event in events:
        assert event in shown.out


def test_a_history_that_was_saved_replays_against_the_code(dev: RunningDev, monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.testing import ReplayFailed, replay

    name = dev("start", "welcome", "--input", '["Ada", "nobody"]').out.strip()
    dev("wait", name)
    saved = dev.directory / "history.json"
    saved.write_text(dev("history", name, "--json").out)
    scope: dict[str, Any] = {}
    exec(APP, scope)
    other: dict[str, Any] = {}
    exec(APP.replace("for name in names", "for name in reversed(names)"), other)

    replay(scope["app"], saved)
    with pytest.raises(ReplayFailed, match="nobody"):
        replay(other["app"], saved)


def test_list_filters_and_pages(dev: RunningDev) -> None:
    prefix = new_id()
    names = [f"{prefix}-{number}" for number in range(3)]
    for number, name in enumerate(names):
        dev("start", "listen", "--id", name, "--tag", f"n={number % 2}")
    dev("raise", names[2], "go", "--input", "1")
    dev("wait", names[2])

    def ids(*filters: str) -> list[str]:
        return [each["instance_id"] for each in dev("list", "--prefix", prefix, "--json", *filters).json["instances"]]

    assert list(reversed(names)) == ids()
    assert [names[1], names[0]] == ids("--status", "RUNNING")
    assert names[::-1] == ids("-s", "running", "-s", "completed")
    assert [names[1]] == ids("--tag", "n=1")
    assert [] == ids("--name", "welcome")
    assert [] == ids("--held")
    assert [] == ids("--from", "+1h")
    assert names[::-1] == ids("--to", "+1h", "--not-held")
    assert names[::-1] == ids("--from", "-1h")
    assert [] == ids("--to", "-1h")
    first = dev("list", "--prefix", prefix, "--limit", "2", "--json").json
    assert [names[0]] == ids("--limit", "2", "--after", first["next"])
    table = dev("list", "--prefix", prefix, "--limit", "2")
    assert ["ID", "ORCHESTRATION", "STATUS", "CREATED", "UPDATED", "NOTE"] == table.out.splitlines()[0].split()
    assert 3 == len(table.out.splitlines())
    assert f"--after {first['next']}" in table.err


def test_no_row_however_long_is_cut_where_nobody_watches(dev: RunningDev) -> None:
    long = "漢" * 200
    assert 0 == dev("start", "listen", "--id", long).code
    listed = dev("list", "--prefix", long).out

    for cell in (long, "listen", "RUNNING", "ORCHESTRATION", "NOTE"):
        assert cell in listed
    assert 2 == len(listed.splitlines())


def test_suspend_resume_cancel_terminate_and_purge(dev: RunningDev) -> None:
    one, other = new_id(), new_id()
    for name in (one, other):
        dev("start", "listen", "--id", name)

    def status(name: str) -> str:
        return str(dev("get", name, "--json").json["status"])

    assert 0 == dev("suspend", one, other, "--reason", "lunch").code
    assert "SUSPENDED" == status(one)
    assert 0 == dev("resume", one, other).code
    assert 0 == dev("cancel", one, "--reason", "too late").code
    assert 0 == dev("terminate", other, "--reason", "it was wrong").code
    assert (1, "CANCELED") == (dev("wait", one, "--json").code, status(one))
    ended = dev("wait", other, "--json")
    assert (1, "it was wrong") == (ended.code, ended.json["result"])
    assert "is TERMINATED: it was wrong" in dev("wait", other).err
    assert 0 == dev("purge", one, other).code
    assert [5, 5] == [dev("get", name).code for name in (one, other)]


def test_of_many_each_is_asked_and_the_code_is_that_of_the_first_refusal(dev: RunningDev) -> None:
    here, gone = new_id(), new_id()
    dev("start", "listen", "--id", here)
    done = dev("purge", here, gone)
    forced = dev("purge", gone, here, "--force")

    assert (8, 5) == (done.code, forced.code)
    assert "terminate it first, or purge with --force" in done.err
    assert f"purged: {here}" in forced.err


@pytest.mark.parametrize(
    "verb", [["raise", "ID", "note"], ["suspend"], ["resume"], ["cancel"], ["terminate"], ["purge", "--force"]]
)
def test_a_program_is_told_what_was_done_and_what_was_refused(dev: RunningDev, verb: list[str]) -> None:
    here, gone = new_id(), new_id()
    dev("start", "listen", "--id", here)
    if "ID" in verb:
        outcomes = [dev(*(name if each == "ID" else each for each in verb), "--json") for name in (here, gone)]
    else:
        outcomes = [dev(*verb, here, gone, "--json")]
    told = [each.json for each in outcomes]

    assert [here] == [name for each in told for name in each["done"]]
    (refused,) = [each for one in told for each in one["refused"]]
    assert (gone, "instance-not-found", True) == (
        refused["instance_id"], refused["code"], f"no instance '{gone}'" in refused["detail"],
    )  # fmt: skip
    assert 5 == outcomes[-1].code


def test_a_failure_is_told_with_its_causes_and_exits_1(dev: RunningDev) -> None:
    done = dev("start", "welcome", "--input", '["nobody"]', "--wait")
    name = dev("list", "--status", "FAILED", "--limit", "1", "--json").json["instances"][0]["instance_id"]
    document = dev("wait", name, "--json")

    assert (1, "") == (done.code, done.out)
    assert "ValueError: nobody is there" in done.err
    assert (1, "FAILED") == (document.code, document.json["status"])
    assert "caused by ValueError: nobody is there" in dev("get", name).out


def test_a_wait_that_is_over_exits_6_and_the_instance_goes_on(dev: RunningDev) -> None:
    name = new_id()
    dev("start", "listen", "--id", name)
    done = dev("wait", name, "--timeout", "0.3")

    assert (6, "") == (done.code, done.out)
    assert "RUNNING and goes on" in done.err
    assert "RUNNING" == dev("get", name, "--json").json["status"]


def test_one_that_has_ended_says_so_and_takes_no_more(dev: RunningDev) -> None:
    name = dev("start", "welcome", "--input", '["Ada"]').out.strip()
    dev("wait", name)

    for command in (["raise", name, "go"], ["cancel", name], ["terminate", name], ["suspend", name], ["resume", name]):
        done = dev(*command)
        assert (8, f"error: instance '{name}' is COMPLETED; it has ended, and takes no more requests\n") == (
            done.code,
            done.err,
        )


def test_the_history_of_one_instance_is_no_export_and_no_broken_log(dev: RunningDev, tmp_path: Path) -> None:
    name = dev("start", "welcome", "--input", '["Ada"]', "--wait", "--json").json["instance_id"]
    saved = dev("history", name, "--json")
    for text in (saved.out, json.dumps(saved.json)):
        (tmp_path / "w.json").write_text(text)
        done = dev("audit", "--from", str(tmp_path / "w.json"))

        assert (64, "") == (done.code, done.out)
        assert "that is one instance's history: replay it with perdure.testing.replay" in done.err
    (tmp_path / "w.json").write_text(saved.out[:-10])
    assert 2 == dev("audit", "--from", str(tmp_path / "w.json")).code


def test_an_export_is_written_whole_or_not_at_all(
    dev: RunningDev, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "history.jsonl"
    assert 0 == dev("audit", "--export", str(file)).code
    whole = file.read_text()

    def trimmed(_records: object, out: TextIO, *, rewinds: bool = True) -> int:
        out.write("half of it")
        raise LogTruncated("it ends before its end") if rewinds else ExportTrimmed("it was trimmed meanwhile")

    monkeypatch.setattr(audit, "write_export", trimmed)
    broken, piped = dev("audit", "--export", str(file)), dev("audit", "--export", "-")

    assert (8, "error: it ends before its end\n") == (broken.code, broken.err)
    assert (7, "error: it was trimmed meanwhile\n") == (piped.code, piped.err)
    assert ([file], whole) == (list(tmp_path.iterdir()), file.read_text())


def test_a_start_whose_outcome_is_unknown_says_how_to_repeat_it(dev: RunningDev) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = dev("start", "listen", "--id", "x", "--url", url, PERDURE_REQUEST_TIMEOUT="0.5")

    assert (7, "") == (done.code, done.out)
    (request_id,) = re.findall(r"to repeat it: the same, with --id x --request-id (\w+)", done.err)
    assert f"--id and --request-id '{request_id}', and it is started once" in done.err
    assert 1 == done.err.count("started or not")


def test_an_unknown_orchestration_is_held_and_told(dev: RunningDev) -> None:
    done = dev("start", "not-yet", "--id", new_id())
    listed = dev("list", "--held")

    assert 0 == done.code
    assert "held:" in done.err
    assert "not-yet" in done.err
    assert "held: this worker has no orchestration 'not-yet'" in listed.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["get", "nobody"], 5, "no instance 'nobody'; check the id"),
        (["raise", "nobody", "go"], 5, "no instance 'nobody'"),
        (["start", "welcome", "--input", "Ada"], 2, "a string needs its quotes"),
        (["start", "welcome", "--input", "NaN"], 2, "NaN is no JSON"),
        (["start", "welcome", "--input", "@nowhere.json"], 2, "nowhere.json"),
        (["start", "welcome", "--id", "a\nb"], 2, "printable"),
        (["start", "welcome", "--tag", "x"], 2, "--tag wants NAME=VALUE"),
        (["list", "--tag", "a=1", "--tag", "a=2"], 2, "--tag a is given twice, as '1' and as '2'"),
        (["start", "welcome", "--event", "go"], 2, "--event wants NAME=VALUE"),
        (["start", "welcome", "--at", "tomorrow"], 2, "a time is ISO 8601"),
        (["start", "welcome", "--timeout", "5"], 2, "--timeout goes with --wait"),
        (["start", "welcome", "--at", "+99999999d"], 2, "not within the years 1 to 9999"),
        (["wait", "x", "--timeout", "nan"], 2, "a time-out is a number of seconds"),
        (["wait", "x", "--timeout", "-1"], 2, "a time-out is a number of seconds"),
        (["get", "\udcff"], 2, "printable"),
        (["start", "welcome", "--if-exists", "ignore"], 2, "reject, return, replace"),
        (["list", "--status", "LOST"], 2, "a status is one of PENDING"),
        (["list", "--after", "no cursor"], 2, "not a cursor"),
        (["list", "--limit", "0"], 2, "--limit"),
        (["list", "--url", "localhost:1"], 2, "begins with http://"),
        (["list", "--url", "http://127.0.0.1:1"], 7, "is `perdure dev` or `perdure serve` running there?"),
        (["start", "welcome", "--id", "   "], 2, "an instance id must not be blank"),
        (["terminate", "x", "--reason", "r" * 4001], 2, "a reason has at most 4000 characters"),
        (["nothing"], 2, "No such command"),
        (["get"], 2, "Missing argument"),
    ],
)
def test_an_error_says_what_to_do_and_its_code_what_it_is(
    dev: RunningDev, arguments: list[str], code: int, said: str
) -> None:
    done = dev(*arguments)

    assert (code, "") == (done.code, done.out)
    assert said in done.err


@pytest.mark.parametrize("arguments", [["list"], ["start", "welcome"], ["cancel", "x"], ["audit"]])
def test_another_hub_than_the_one_that_stands_here_is_refused(dev: RunningDev, arguments: list[str]) -> None:
    for done in (dev(*arguments, "--hub", "other"), dev(*arguments, PERDURE_HUB="other")):
        assert (8, "") == (done.code, done.out)
        assert f"{dev.directory / '.perdure'} holds hub 'perdure', not 'other'" in done.err
    assert 0 == dev("list", "--hub", "perdure").code


def test_values_of_every_kind_come_through_and_markup_in_them_is_text(dev: RunningDev) -> None:
    name, value = new_id(), {"n": 2**60, "text": "ä\u2028\"'\\ 🙂 [red]", "list": [1.5, None, True]}
    dev("start", "listen", "--id", name, "--event", "other=[]")
    dev("raise", name, "go", "--input", json.dumps(value))

    assert value == dev("wait", name).json
    assert value == dev("get", name, "--json").json["result"]
    assert "[red]" in dev("get", name).out
    assert "64 bits" in dev("raise", name, "go", "--input", str(2**70)).err
