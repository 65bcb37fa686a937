"""librdkafka's properties, as far as we must know them: which are fixed, and which kind of client each is for."""

FIXED = {
    "bootstrap.servers": "`brokers` names them (PERDURE_BROKERS)",
    "metadata.broker.list": "`brokers` names them (PERDURE_BROKERS)",
    "queuing.strategy": "a record states the offset that it gets, so the order of sending is the order of landing (R4)",
    "acks": "every acknowledged append is with all in-sync replicas (R4)",
    "request.required.acks": "every acknowledged append is with all in-sync replicas (R4)",
    "enable.idempotence": "a retried append must not land twice (R4)",
    "transactional.id": "the history has one writer and no transactions (R4)",
    "delivery.report.only.error": "every append is confirmed by its report (R4)",
    "partitioner": "every record names its partition (R9)",
    "isolation.level": "the inbox is read committed, the history uncommitted (R9)",
    "auto.offset.reset": "no reader jumps over records in silence (R6)",
    "enable.auto.commit": "the history alone knows what is consumed (R8)",
    "auto.commit.enable": "the history alone knows what is consumed (R8)",
    "enable.auto.offset.store": "the history alone knows what is consumed (R8)",
    "enable.partition.eof": "the readers' own ends depend on it",
    "group.id": "the group is the hub's (R6)",
    "group.protocol": "membership hands partitions over one by one (R6)",
    "partition.assignment.strategy": "membership hands partitions over one by one (R6)",
}

# A client warns about properties of the other kind, so each is given its own; what is not listed goes to all.
PRODUCER_ONLY = frozenset(
    {
        "batch.num.messages",
        "batch.size",
        "compression.codec",
        "compression.level",
        "compression.type",
        "delivery.timeout.ms",
        "enable.gapless.guarantee",
        "linger.ms",
        "message.send.max.retries",
        "message.timeout.ms",
        "queue.buffering.backpressure.threshold",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "queue.buffering.max.ms",
        "queuing.strategy",
        "request.timeout.ms",
        "retries",
        "sticky.partitioning.linger.ms",
        "transaction.timeout.ms",
    }
)
CONSUMER_ONLY = frozenset(
    {
        "auto.commit.interval.ms",
        "check.crcs",
        "coordinator.query.interval.ms",
        "fetch.error.backoff.ms",
        "fetch.max.bytes",
        "fetch.message.max.bytes",
        "fetch.min.bytes",
        "fetch.queue.backoff.ms",
        "fetch.wait.max.ms",
        "group.instance.id",
        "group.protocol.type",
        "group.remote.assignor",
        "heartbeat.interval.ms",
        "max.partition.fetch.bytes",
        "max.poll.interval.ms",
        "offset.store.method",
        "queued.max.messages.kbytes",
        "queued.min.messages",
        "session.timeout.ms",
    }
)
# Of use to the membership consumer alone.
GROUP_ONLY = frozenset(
    {
        "group.instance.id",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "session.timeout.ms",
    }
)
# What the client reads when it is made.
FILES = frozenset(
    {
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.crl.location",
        "ssl.key.location",
        "ssl.keystore.location",
    }
)
