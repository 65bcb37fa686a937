"""Finding an app by `module:name`."""

import importlib
import sys
from collections.abc import Callable
from inspect import unwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.errors import AppNotLoaded

if TYPE_CHECKING:
    from perdure.actors.app import App


def load_app(path: str) -> "App":
    """Import the app that `module:name` names, from the working directory or what is installed; all its annotations lead to types.
    Raises AppNotLoaded."""
    from perdure.actors.app import App

    if not path:
        raise AppNotLoaded("no app is named: give it as module:name, or set `app` in perdure.toml")
    module_name, _, name = path.partition(":")
    _check_is_no_file(module_name, name or "app")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise AppNotLoaded(
                f"{module_name} cannot be imported: {_where(error)}it needs {error.name!r}, which is not installed"
            ) from error
        raise AppNotLoaded(
            f"there is no module {module_name!r}, neither in {Path.cwd()} nor installed; an app is named as module:name"
        ) from error
    except Exception as error:
        raise AppNotLoaded(
            f"{module_name} cannot be imported: {_where(error)}{type(error).__name__}: {error}"
        ) from error
    found = getattr(module, name or "app", None)
    if isinstance(found, App):
        _resolve(found)
        return found
    apps = sorted(each for each, value in vars(module).items() if isinstance(value, App))
    hint = f"; it has {', '.join(f'{module_name}:{each}' for each in apps)}" if apps else "; make one with app = App()"
    what = "has no" if found is None else f"has a {type(found).__name__} called"
    raise AppNotLoaded(f"module {module_name!r} {what} {name or 'app'!r}, and an App was wanted{hint}")


def _check_is_no_file(module_name: str, name: str) -> None:
    """A path of a file is no name of a module, and Python's own words for it lead nowhere."""
    steps = module_name.removesuffix(".py").replace("\\", "/").replace("/", ".").split(".")
    if module_name != ".".join(filter(None, steps)):
        meant = ".".join(filter(None, steps)) or "app"
        raise AppNotLoaded(
            f"an app is named as module:name, not by its file, and looked for from the working directory; found {module_name!r}: did you "
            f"mean {meant}:{name}?"
        )


def _resolve(app: "App") -> None:
    """A type may be defined below its use, so only now all of them must be there; else every instance would fail."""
    from perdure.actors.errors import ValueRefused

    for definition in (*app.orchestrations.values(), *app.activities.values()):
        try:
            definition.resolve()
        except (ValueRefused, TypeError) as error:
            raise AppNotLoaded(f"{_place_of(definition.function)}{error}") from error
        except Exception as error:  # an annotation may be any expression of the author's
            raise AppNotLoaded(f"{_place_of(definition.function)}{type(error).__name__}: {error}") from error


def _place_of(function: Callable[..., Any]) -> str:
    """Where a function is written."""
    code = getattr(unwrap(function), "__code__", None)
    return f"{_shown(Path(code.co_filename))}:{code.co_firstlineno}: " if code is not None else ""


def _shown(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def _where(error: BaseException) -> str:
    """The last line of the author's own that the error came through."""
    traceback, place = error.__traceback__, ""
    while traceback is not None:
        file = Path(traceback.tb_frame.f_code.co_filename)
        if file.is_file() and file.is_relative_to(Path.cwd()):
            place = f"{_shown(file)}:{traceback.tb_lineno}: "
        traceback = traceback.tb_next
    return place
