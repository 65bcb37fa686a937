"""What an instance waits for, in words."""

from perdure.actors.app import App
from perdure.actors.executor import InstanceHeld, RecordedTurn
from perdure.audit.decisions import split_executions
from perdure.client.views import History
from perdure.schemas.events import ExecutionStarted


def describe_wait(app: App, history: History) -> str:
    """One line on an instance that has not ended."""
    instance = history.instance
    who = f"  {instance.instance_id} ({instance.name})"
    if instance.held is not None:
        return f"{who} is held: {instance.held.reason}"
    events = ", ".join(repr(name) for name in _awaited_events(app, history))
    return f"{who} is {instance.status.name}" + (f" and waits for the event {events}" if events else "")


def _awaited_events(app: App, history: History) -> list[str]:
    """The external events that its code waits for, by a replay of its execution."""
    turns: list[RecordedTurn] = []
    for turn in history.decode():
        for decided, events in split_executions(turn.decided, turn.events):
            if events and isinstance(events[0], ExecutionStarted):
                turns.clear()
            turns.append(RecordedTurn(turn.time_ms, decided, events))
    started = turns[0].events[0]
    assert isinstance(started, ExecutionStarted)
    try:
        executor = app.executor(history.instance.instance_id, started)
        executor.replay(turns)
    except InstanceHeld:
        return []
    names = executor.awaited_events()
    executor.close()
    return names
