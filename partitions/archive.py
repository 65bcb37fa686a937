"""Archive: when a partition's store goes to the hub's snapshots, and its way there (R14).

A snapshot costs what the store is large, and spares another machine what the log has grown since; so the next one is due when
the two are about equal. The whole effort stays of the order of the log's own.
"""

from collections.abc import Callable

import structlog

from .ports import LogTruncated, LogUnavailable, SnapshotTopic, Store
from .snapshots import Shelf, read_shelf, wanted_of
from .state import Anchor
from .upload import Upload

# Header, index, beginning and end are six entries beside an instance's turns: one of two turns has four for each record.
ENTRIES_PER_RECORD = 4

_log = structlog.get_logger("perdure.snapshots")


class Archive:
    """The snapshots of one owned partition; `made` is called for each. Without a topic it does nothing."""

    def __init__(
        self, topic: SnapshotTopic | None, partition: int, store: Store, records_min: int, made: Callable[[], None]
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._store = store
        self._records_min = records_min
        self._shelf: Shelf | None = None
        self._upload: Upload | None = None
        self._made = made

    def take_checkpoint(self, anchor: Anchor) -> None:
        """The store is as of this checkpoint now: begin a snapshot if one is due. Blocks for a moment the first time."""
        topic = self._topic
        if topic is None or self._upload is not None or anchor.offset < self._records_min:
            return
        if self._shelf is None:
            try:
                self._shelf = read_shelf(topic, self._partition, wanted_of(anchor.cluster_id, anchor.topic_id))
            except (LogUnavailable, LogTruncated) as error:
                # Without snapshots recovery reads the log: no reason to let the partition go. The next checkpoint tries again.
                _log.warning("snapshot not begun", partition=self._partition, reason=str(error))
                return
        # One that says it is of what is not there yet is nobody's.
        newest = next((kept.manifest for kept in self._shelf.kept if kept.manifest.offset <= anchor.offset), None)
        behind = anchor.offset - (newest.offset if newest is not None else 0)
        if behind >= max(self._records_min, newest.entries // ENTRIES_PER_RECORD if newest is not None else 0):
            self._upload = Upload(topic, self._store, anchor, self._shelf)

    def step(self) -> bool:
        """Go on with a snapshot; true if anything was sent."""
        upload = self._upload
        if upload is None:
            return False
        sent = upload.step()
        if upload.done:
            self._shelf, self._upload = upload.after, None
            self._made()
        elif upload.failure:
            _log.warning("snapshot not kept", partition=self._partition, reason=upload.failure)
            self._shelf, self._upload = None, None
        return sent
