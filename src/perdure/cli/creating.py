"""`perdure init`: a small app, its test and its configuration."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from perdure.errors import ConfigError

from .command import guarded

APP = '''"""A first orchestration. Run it: perdure dev"""

from perdure import App, OrchestrationContext

app = App()


@app.activity
def greet(name: str) -> str:
    return f"hello {name}"


@app.orchestration
async def welcome(ctx: OrchestrationContext, names: list[str]) -> list[str]:
    return [await ctx.call_activity(greet, name) for name in names]
'''

TEST = '''"""The app, tested without a server and without waiting."""

from app import app, welcome


def test_everybody_is_greeted(perdure_env):
    env = perdure_env(app)

    assert env.run(welcome, ["Ada", "Grace"]) == ["hello Ada", "hello Grace"]
'''

CONFIGURATION = """app = "app:app"
# hub = "hello"
# brokers = "127.0.0.1:9092"

# [kafka]
# "compression.type" = "lz4"
"""

FILES = {"app.py": APP, "test_app.py": TEST, "perdure.toml": CONFIGURATION, ".gitignore": ".perdure/\n__pycache__/\n"}


def register(app: typer.Typer) -> None:
    app.command("init", rich_help_panel="Project")(init)


def init(
    directory: Annotated[Path, typer.Argument(help="Where; it is made if it is not there.")] = Path(),
) -> None:
    """Write a small app, its test and perdure.toml."""
    guarded(lambda: write_project(directory))


def write_project(directory: Path) -> None:
    """Write all files, or none where one of them is there already."""
    from .output import note, quoted

    there = [name for name in FILES if (directory / name).exists() and name != ".gitignore"]
    if there:
        raise ConfigError(
            f"{', '.join(there)} exist{'s' if len(there) == 1 else ''} in {directory.absolute()}; nothing was written: choose another directory"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in FILES.items():
            if not (directory / name).exists():
                (directory / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write to {directory}: {error}") from error
    step = "" if directory == Path() else f"cd {quoted(shlex.quote(str(directory)))} && "
    note(f"wrote {', '.join(FILES)}")
    note(f"run it:  {step}perdure dev")
    note("""then:    perdure start welcome --input '["Ada", "Grace"]' --wait""")
    note("test it: pytest")
