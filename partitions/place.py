"""Where the engine is now, so that every log line can say it: one assignment a turn, no context variable, no bound logger."""

import threading


class Place:
    """The partition, instance and turn that the engine's thread works on. An empty instance: between turns. `loop_since`: since
    when it runs async activities, by time.monotonic; 0: it does not."""

    __slots__ = ("engine", "hub", "instance", "loop_since", "partition", "turn")

    def __init__(self) -> None:
        self.hub = ""
        self.engine = threading.get_ident()
        self.loop_since = 0.0
        self.leave()

    def enter(self, partition: int) -> None:
        self.partition = partition
        self.instance = ""

    def leave(self) -> None:
        """The engine works on no partition."""
        self.partition = -1
        self.instance = ""
        self.turn = -1

    def fields(self) -> dict[str, str | int]:
        """What a log line says of it."""
        fields: dict[str, str | int] = {}
        if self.hub:
            fields["hub"] = self.hub
        if self.partition >= 0:
            fields["partition"] = self.partition
        if self.instance:
            fields["instance"] = self.instance
            fields["turn"] = self.turn
        return fields


PLACE = Place()
"""The engine's; a process has one engine."""
