"""What a worker tells Prometheus. The engine keeps plain counters; they are read only when somebody asks.

Rules of this file: it runs on the server's threads, so it only reads single values and copies; one family, one unit, in its name;
labels are hub and partition.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isinf

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from perdure.partitions.durations import Durations
from perdure.partitions.owner import PartitionOwner, Phase

from .worker import Worker

_LABELS = ("hub", "partition")


@dataclass(frozen=True, slots=True)
class _Family:
    """One metric of a partition: its name, its help, and how to read it."""

    name: str
    text: str
    read: Callable[[PartitionOwner], float]


_COUNTERS = (
    _Family("perdure_records_appended", "Records sent to the history.", lambda owner: owner.counts.records),
    _Family("perdure_instances_started", "Instances started.", lambda owner: owner.counts.instances_started),
    _Family("perdure_instances_ended", "Instances that came to an end.", lambda owner: owner.counts.instances_ended),
    _Family("perdure_activities_dispatched", "Attempts dispatched.", lambda owner: owner.counts.activities_dispatched),
    _Family("perdure_activities_failed", "Attempts that failed.", lambda owner: owner.counts.activities_failed),
    _Family("perdure_activities_retried", "Attempts after the first.", lambda owner: owner.counts.activities_retried),
    _Family(
        "perdure_results_dropped",
        "Results that no attempt waited for (R7).",
        lambda owner: owner.counts.results_dropped,
    ),
    _Family("perdure_messages_duplicate", "Messages seen before (R7).", lambda owner: owner.counts.duplicates),
    _Family(
        "perdure_messages_out_of_order", "Messages dropped for a gap (R7).", lambda owner: owner.counts.out_of_order
    ),
    _Family(
        "perdure_messages_forwarded", "Messages on the wrong partition (R9).", lambda owner: owner.counts.forwarded
    ),
    _Family(
        "perdure_dead_letters", "Messages that could not be read or routed.", lambda owner: owner.counts.dead_letters
    ),
    _Family(
        "perdure_epochs_lost",
        "Epochs that ended before they were released (R4).",
        lambda owner: owner.counts.epochs_lost,
    ),
    _Family("perdure_checkpoints", "Checkpoints confirmed.", lambda owner: owner.counts.checkpoints),
    _Family(
        "perdure_instances_expired",
        "Ended instances forgotten by the retention (R15).",
        lambda owner: owner.counts.expired,
    ),
    _Family("perdure_histories_carried", "Histories appended again (R15).", lambda owner: owner.counts.carried),
    _Family(
        "perdure_history_trims",
        "Times that the history was trimmed to a new base (R15).",
        lambda owner: owner.counts.bases,
    ),
    _Family("perdure_snapshots", "Snapshots kept on the hub's topic (R14).", lambda owner: owner.counts.snapshots),
    _Family("perdure_records_recovered", "Records read to recover.", lambda owner: owner.counts.recovered_records),
)


def _owned(owner: PartitionOwner) -> float:
    return owner.phase == Phase.OWNING


def _outbox_depth(owner: PartitionOwner) -> float:
    holdings = owner.holdings
    return holdings.outbox.depth if holdings is not None else 0


def _held(owner: PartitionOwner) -> float:
    holdings = owner.holdings
    return holdings.instances.held_count if holdings is not None else 0


def _checkpoint_age(owner: PartitionOwner) -> float:
    tenure = owner.tenure
    return tenure.checkpoint_age_seconds if tenure is not None else 0.0


def _checkpoint_late(owner: PartitionOwner) -> float:
    return owner.tenure is not None and owner.tenure.checkpoint_late


_GAUGES = (
    _Family(
        "perdure_checkpoint_late", "1 while a recovery would read more than it ever should (R14).", _checkpoint_late
    ),
    _Family("perdure_partition_owned", "1 while this process owns the partition and has recovered it.", _owned),
    _Family("perdure_outbox_depth", "Messages to others that are not known to be delivered.", _outbox_depth),
    _Family("perdure_instances_held", "Instances that wait for other code or `resume`.", _held),
    _Family(
        "perdure_checkpoint_age_seconds", "Time since the checkpoint that recovery would start from.", _checkpoint_age
    ),
)


@dataclass(frozen=True, slots=True)
class _Times:
    """One time that is kept as a histogram."""

    name: str
    text: str
    read: Callable[[PartitionOwner], Durations]


_TIMES = (
    _Times("perdure_turn_seconds", "Time to take a turn.", lambda owner: owner.counts.turn_times),
    _Times("perdure_append_seconds", "Time from append to confirmation.", lambda owner: owner.counts.append_times),
    _Times(
        "perdure_timer_lateness_seconds", "How late durable timers fire.", lambda owner: owner.counts.timer_lateness
    ),
)


class WorkerCollector(Collector):
    """Reads one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._hub = worker.log.identity.hub

    def collect(self) -> Iterator[Metric]:
        owners = [(str(partition), owner) for partition, owner in sorted(self._worker.owners.copy().items())]
        for family in _COUNTERS:
            yield self._fill(CounterMetricFamily(family.name, family.text, labels=_LABELS), family, owners)
        for family in _GAUGES:
            yield self._fill(GaugeMetricFamily(family.name, family.text, labels=_LABELS), family, owners)
        for times in _TIMES:
            histogram = HistogramMetricFamily(times.name, times.text, labels=_LABELS)
            for partition, owner in owners:
                found = times.read(owner)
                buckets = [("+Inf" if isinf(bound) else str(bound), count) for bound, count in found.buckets()]
                histogram.add_metric([self._hub, partition], buckets, found.seconds)
            yield histogram
        yield from self._of_process(owners)

    def _fill(
        self, metric: CounterMetricFamily | GaugeMetricFamily, family: _Family, owners: list[tuple[str, PartitionOwner]]
    ) -> Metric:
        for partition, owner in owners:
            metric.add_metric([self._hub, partition], family.read(owner))
        return metric

    def _of_process(self, owners: list[tuple[str, PartitionOwner]]) -> Iterator[Metric]:
        """What the worker keeps itself, by partition, and what belongs to no partition."""
        worker = self._worker
        lag = GaugeMetricFamily(
            "perdure_inbox_lag_records",
            "Inbox records that no confirmed turn has moved past; up to 1,000 of them may be reads of a hub that does nothing else.",
            labels=_LABELS,
        )
        for partition, records in worker.lookout.inbox_lag.copy().items():
            lag.add_metric([self._hub, str(partition)], records)
        stuck = GaugeMetricFamily(
            "perdure_inbox_stuck_seconds", "For how long an open transaction has hidden messages (R9).", labels=_LABELS
        )
        for partition, seconds in worker.lookout.inbox_stuck_seconds.copy().items():
            stuck.add_metric([self._hub, str(partition)], seconds)
        missing = GaugeMetricFamily(
            "perdure_messages_missing", "Sources whose next message has been missing for long (R7).", labels=_LABELS
        )
        for partition, sources in worker.lookout.gaps.copy().items():
            missing.add_metric([self._hub, str(partition)], sources)
        running = GaugeMetricFamily(
            "perdure_activities_running", "Attempts that are out in this process.", labels=_LABELS
        )
        for name, owner in owners:
            running.add_metric([self._hub, name], worker.pool.running_count(owner.partition))
        crashed = CounterMetricFamily("perdure_partition_crashes", "Partitions closed by a fault.", labels=_LABELS)
        for partition, crashes in list(worker.crashes.items()):
            crashed.add_metric([self._hub, str(partition)], crashes.total)
        undelivered = GaugeMetricFamily(
            "perdure_messages_undelivered",
            "Targets to which nothing could be delivered for long (R7).",
            labels=_LABELS,
        )
        for partition, targets in worker.lookout.undelivered.copy().items():
            undelivered.add_metric([self._hub, str(partition)], targets)
        yield from (lag, stuck, missing, undelivered, running, crashed)
        counts = worker.pool.counts()
        for name, text, value in (
            ("perdure_activities_queued", "Attempts that wait for a slot.", counts.queued),
            ("perdure_activities_abandoned", "Functions that run on though nobody waits for them.", counts.abandoned),
        ):
            gauge = GaugeMetricFamily(name, text, labels=("hub",))
            gauge.add_metric([self._hub], value)
            yield gauge
        timed_out = CounterMetricFamily(
            "perdure_activities_timed_out", "Attempts that were out of time.", labels=("hub",)
        )
        timed_out.add_metric([self._hub], counts.timed_out)
        yield timed_out
