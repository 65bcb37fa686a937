"""docs/CLI.md has every exit code, and each means what it says."""

import re
from inspect import signature
from pathlib import Path

import pytest

from perdure.cli import command
from perdure.client import ListOptions, StartOptions
from perdure.client.sync import Handle
from perdure.errors import (
    AppNotLoaded,
    ConfigError,
    HubMissing,
    HubRefused,
    HubUnavailable,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    InvalidRequest,
    NoAnswer,
    PayloadTooLarge,
    PerdureError,
    StartUnknown,
    Unauthorized,
    WaitTimeout,
)
from tests.cli.conftest import perdure_here

PAGE = Path(__file__).resolve().parents[2] / "docs" / "CLI.md"


def documented() -> dict[int, str]:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {int(code): meaning for code, meaning in rows}


def test_the_page_lists_exactly_the_codes_that_there_are() -> None:
    from perdure.audit import Blame

    codes = {code for _, code in command._EXIT_CODES} | {blame.value for blame in Blame}

    assert sorted(codes | {0, command.AUDIT_USAGE, 130}) == sorted(documented())


@pytest.mark.parametrize(
    ("error", "code", "meaning"),
    [
        (InvalidRequest("x"), 2, "command line"),
        (PayloadTooLarge("x"), 2, "command line"),
        (ConfigError("x"), 2, "configuration is wrong, or neither names a hub"),
        (AppNotLoaded("x"), 2, "configuration"),
        (InstanceNotFound("x"), 5, "not found"),
        (WaitTimeout("x"), 6, "time is over"),
        (NoAnswer("x"), 7, "no answer"),
        (StartUnknown("x"), 7, "safe to repeat"),
        (HubMissing("x"), 7, "the hub that is named is not there"),
        (HubUnavailable("x"), 7, "unavailable"),
        (InstanceAlreadyExists("x"), 8, "the id is taken"),
        (InstanceFinished("x"), 8, "has ended"),
        (Unauthorized("x"), 8, "refused"),
        (HubRefused("x"), 8, "topics are not what they must be"),
        (PerdureError("x"), 70, "fault of ours"),
    ],
)
def test_each_error_has_its_code(error: PerdureError, code: int, meaning: str) -> None:
    assert code == command.exit_code_of(error)
    assert meaning in documented()[code]


def test_the_help_names_them_too() -> None:
    helped = " ".join(perdure_here("--help", cwd=Path.cwd()).out.split())

    for word in ("5 not found", "6 time over", "7 unavailable", "8 refused"):
        assert word in helped


def test_a_fault_of_ours_is_a_line_and_a_traceback_only_with_debug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(command, "load_settings", fail)
    done = perdure_here("list", cwd=tmp_path)

    assert (70, "") == (done.code, done.out)
    assert "ZeroDivisionError: a bug; this is a fault of perdure's" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in perdure_here("--debug", "list", cwd=tmp_path).err
    assert "Traceback" in perdure_here("list", "--debug", cwd=tmp_path).err


def test_errors_name_flags_and_each_flag_and_parameter_that_is_meant_is_there() -> None:
    parameters = {*StartOptions.__annotations__, *ListOptions.__annotations__, *signature(Handle.purge).parameters}
    helped = " ".join(perdure_here(verb, "--help", cwd=Path.cwd()).out for verb in ("start", "list", "purge"))
    no_flag_sets_it = {"tell_end"}

    for parameter, flag in command.FLAGS.items():
        assert parameter.removeprefix("with ") in parameters
        assert f"{flag.removeprefix('with ')} " in helped
    assert {name for name in parameters if "_" in name} - no_flag_sets_it <= command.FLAGS.keys()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("replace_statuses go with if_exists=replace", "--replace-status go with --if-exists replace"),
        ("instance 'if_exists=x' of \"start_at\" is there", "instance 'if_exists=x' of \"start_at\" is there"),
        ("with the same instance_id and request_id 'r'", "with the same --id and --request-id 'r'"),
        ("the hub's start_at and the client's", "the hub's --at and the client's"),
        ("or purge with force", "or purge with --force"),
        ("no my_request_id, --if-exists", "no my_request_id, --if-exists"),
    ],
)
def test_what_is_in_quotes_is_left_as_it_is(said: str, shown: str) -> None:
    assert shown == command.with_flags(said)


def test_the_words_of_the_users_own_code_are_left_as_they_are() -> None:
    said = " ".join(command.FLAGS)

    assert command.with_flags(said) == command.words_of(InvalidRequest(said)) != said
    for others in (AppNotLoaded(said), ConfigError(said), HubUnavailable(said)):
        assert said == command.words_of(others)
