"""Testing an app: run it with no server and no waiting, fake its activities, replay saved histories.

def test_everybody_is_greeted(perdure_env):
    env = perdure_env(app)
    env.fake(greet, "hello")
    assert env.run(welcome, ["Ada"]) == ["hello"]
"""

from .environment import Environment, EnvironmentHandle, Stuck, run
from .fakes import Fake
from .replay import ReplayFailed, replay

__all__ = ["Environment", "EnvironmentHandle", "Fake", "ReplayFailed", "Stuck", "replay", "run"]
