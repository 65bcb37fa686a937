"""`perdure dev`, `perdure worker` and `perdure serve`: the processes."""

from dataclasses import fields
from functools import partial
from typing import Annotated, Any

import typer

from perdure.config import Loaded, Settings

from .command import KAFKA, NEARBY, WORKER, command, guarded

AppPath = Annotated[
    str | None, typer.Argument(help="The app, as module:name; default: `app` of perdure.toml.", metavar="APP")
]
Host = Annotated[str | None, typer.Option("--host", help="The address to serve on.")]
Retention = Annotated[
    str | None,
    typer.Option(
        "--retention", help="How long ended instances are kept and purged ones stay in the log, as 30d; 0: for ever."
    ),
]
Port = Annotated[int | None, typer.Option("--port", help="The port to serve on; 0 takes a free one.")]


def register(app: typer.Typer) -> None:
    for name, act in (("dev", dev), ("worker", worker), ("serve", serve)):
        app.command(name, rich_help_panel="Run")(act)


@command("app", "port", "retention", where=NEARBY, logs=True)
def dev(
    loaded: Loaded,
    app: AppPath = None,
    port: Port = None,
    partitions: Annotated[int | None, typer.Option("--partitions", min=1, help="Of a new hub.")] = None,
    replay: Annotated[
        bool,
        typer.Option(
            "--replay/--no-replay", help="Replay every turn from cold, so that code that is not deterministic shows."
        ),
    ] = True,
    retention: Retention = None,
) -> int:
    """Run a hub, a worker and the API in one process, with no broker. State is kept in .perdure/."""
    from perdure.dev import DevOptions, run_dev

    from .apps import load_app

    settings = loaded.settings
    ready = partial(_say_ready, settings.port)
    options = DevOptions(settings, partitions, replay, not loaded.named_now("port"), ready, _say_stopping)
    return run_dev(load_app(settings.app), options)


@command("app", "processes", "standby", "drain_timeout", "host", "health_port", "retention", where=WORKER, logs=True)
def worker(
    loaded: Loaded,
    app: AppPath = None,
    processes: Annotated[int | None, typer.Option("--processes", "-n", min=1, help="Worker processes.")] = None,
    standby: Annotated[
        int | None,
        typer.Option("--standby", min=0, help="Processes that keep a warm store of each partition beside its owner."),
    ] = None,
    drain_timeout: Annotated[
        float | None, typer.Option("--drain-timeout", help="Seconds that activities get at a stop.")
    ] = None,
    host: Host = None,
    health_port: Annotated[
        int | None,
        typer.Option("--health-port", "--port", help="Of /healthz, /readyz and /metrics; process n has port + n."),
    ] = None,
    retention: Retention = None,
) -> int:
    """Run workers: they share the hub's partitions with all others, take turns and run activities. SIGTERM hands over."""
    from perdure.processes import run_processes
    from perdure.worker_process import run_worker

    from .apps import load_app

    settings = loaded.settings
    load_app(settings.app)  # a wrong name is an error of this process, not of every child
    free = not loaded.named_now("health_port")
    if settings.processes == 1:
        return run_worker(load_app(settings.app), settings, 0, port_is_free=free)
    return run_processes(settings.processes, partial(run_child, portable(settings), free))


def portable(settings: Settings) -> dict[str, Any]:
    """The settings' values, as another process can be given them."""
    return {each.name: getattr(settings, each.name) for each in fields(settings)} | {"kafka": dict(settings.kafka)}


def run_child(values: dict[str, Any], port_is_free: bool, slot: int) -> int:
    """One of several worker processes; return its exit code."""
    from perdure.worker_process import run_worker

    from .apps import load_app

    settings = Settings(**values)
    try:
        guarded(lambda: run_worker(load_app(settings.app), settings, slot, port_is_free=port_is_free))
    except typer.Exit as end:
        return end.exit_code
    return 0


@command("host", "port", where=KAFKA, logs=True)
def serve(loaded: Loaded, host: Host = None, port: Port = None) -> int:
    """Serve the HTTP API of a hub on Kafka. Beyond loopback it needs a token (PERDURE_TOKEN)."""
    from perdure.serve_process import run_serve

    return run_serve(
        loaded.settings, partial(_say_ready, loaded.settings.port), port_is_free=not loaded.named_now("port")
    )


def _say_ready(wanted: int, url: str) -> None:
    from .output import note

    note(f"[bold]{url}[/]  (API, /docs, /metrics)  Ctrl-C stops")
    if wanted and not url.endswith(f":{wanted}"):
        note(f"[yellow]port {wanted} is taken, so this one;[/] --port names another")


def _say_stopping(seconds: float) -> None:
    from .output import note

    note(f"waiting up to {seconds:g} s for what runs and who waits; Ctrl-C again ends at once, and nothing is lost")
