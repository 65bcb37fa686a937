"""The format level of a hub on a real broker: raised by a command once every owner reads it, and written from then on (R12)."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.client import Client
from perdure.partitions.kafka import KafkaSettings
from tests.e2e.conftest import PARTITIONS
from tests.e2e.workers import PLENTY_SECONDS, WorkerProcess, until
from tests.evolution.next_build import make_next_build
from tests.evolution.test_two_builds import APP

pytestmark = pytest.mark.kafka


def command(
    settings: KafkaSettings, directory: Path, *words: str, build: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PERDURE_BROKERS": settings.servers, "PERDURE_HUB": settings.hub}
    if build is not None:
        environment["PYTHONPATH"] = str(build)
    full = [sys.executable, "-m", "perdure", *words]
    return subprocess.run(full, cwd=directory, env=environment, capture_output=True, text=True, timeout=PLENTY_SECONDS)


def levels(settings: KafkaSettings, directory: Path, *options: str) -> list[dict[str, Any]]:
    done = command(settings, directory, "hub", "raise-level", "--json", *options)
    assert 0 == done.returncode, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def held(client: Client) -> dict[str, str]:
    return {each.instance_id: each.held.kind for each in client.list(held=True) if each.held is not None}


def test_the_level_is_raised_when_every_owner_reads_it_and_an_older_worker_holds_only_what_it_cannot_read(
    client: Client, settings: KafkaSettings, start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    following = make_next_build(tmp_path / "next")
    (tmp_path / "app.py").write_text(APP)

    # 1. An owner does not read it: nothing is raised.
    this = start_worker(APP)
    refused = command(settings, tmp_path, "hub", "raise-level", "--level", "2")
    assert 8 == refused.returncode, refused.stdout + refused.stderr
    assert "level 2 cannot be read by the owners of partitions 0, 1, 2, 3" in " ".join(refused.stderr.split())
    assert [1] * PARTITIONS == [view["level"] for view in levels(settings, tmp_path)]
    # 2. The next build takes over. Until the level is raised it writes what everybody reads.
    newer = start_worker(APP, build=following)
    this.terminate()
    assert 0 == this.wait()
    before = client.start("order", False, instance_id="before")
    raised = levels(settings, tmp_path)
    assert [(2, 2)] * PARTITIONS == [(view["level"], view["reads"]) for view in raised]
    assert raised == [{**view, "as_of": raised[at]["as_of"]} for at, view in enumerate(levels(settings, tmp_path))]
    praised = [client.start("order", True, instance_id=f"praised-{number}") for number in range(4)]
    until(lambda: all(handle.get().history_events >= 4 for handle in praised))
    # 3. A worker of this build joins, and the other one is killed.
    this = start_worker(APP)
    newer.kill()
    until(lambda: len(held(client)) == len(praised))
    assert {"unknown-event"} == set(held(client).values())
    praised[0].raise_event("go", "kept")
    before.raise_event("go", 1)
    assert ["begun", 1, "done"] == before.result(PLENTY_SECONDS)
    # 4. The next build comes back.
    start_worker(APP, build=following)
    this.terminate()
    assert 0 == this.wait()
    for handle in praised[1:]:
        handle.raise_event("go", 2)
    assert [["begun", "kept", "done"]] + 3 * [["begun", 2, "done"]] == [
        handle.result(PLENTY_SECONDS) for handle in praised
    ]
    until(lambda: not held(client))

    audited = command(settings, tmp_path, "audit", "--app", "app:app", build=following)
    assert 0 == audited.returncode, audited.stdout + audited.stderr
