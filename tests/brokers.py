"""More brokers than one, and one behind a proxy: what a test needs to see of a replicated cluster, and of a network that fails."""

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from tests.broker import (
    START_SECONDS,
    LocalBroker,
    NoBroker,
    broker_directory,
    new_cluster_id,
    ready_java,
)
from tests.ports import free_ports
from tests.proxy import Proxy

COUNT = 3
ADMIN_SECONDS = 10.0


class ClusterNode(LocalBroker):
    """One of three, broker and controller in one."""

    def __init__(self, java: str, directory: Path, number: int, ports: Sequence[tuple[int, int]]) -> None:
        super().__init__(java, directory)
        self.number = number
        self._heap = "384m"
        client_port, controller_port = ports[number]
        self.servers = f"127.0.0.1:{client_port}"
        self._settings |= {
            "node.id": str(number + 1),
            "controller.quorum.voters": ",".join(f"{n + 1}@127.0.0.1:{port}" for n, (_, port) in enumerate(ports)),
            "listeners": f"PLAINTEXT://127.0.0.1:{client_port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{client_port}",
            "offsets.topic.replication.factor": str(COUNT),
            "transaction.state.log.replication.factor": str(COUNT),
            "transaction.state.log.min.isr": "2",
            "replica.lag.time.max.ms": "4000",
            "broker.session.timeout.ms": "3000",
            "controlled.shutdown.enable": "true",
            "unclean.leader.election.enable": "false",
        }

    def join(self, cluster_id: str) -> "ClusterNode":
        self._cluster_id = cluster_id
        return self

    def freeze(self) -> None:
        """Stop its time; it holds its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class ThreeBrokers:
    """Three brokers on this machine's Java. Topics of three replicas need two of them for every append."""

    def __init__(self, java: str) -> None:
        ports = free_ports(2 * COUNT)
        pairs = list(zip(ports[::2], ports[1::2], strict=True))
        cluster_id = new_cluster_id()
        self.nodes = [ClusterNode(java, broker_directory(), n, pairs).join(cluster_id) for n in range(COUNT)]
        self.servers = ",".join(node.servers for node in self.nodes)
        self._admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0, "reconnect.backoff.max.ms": 500})

    @property
    def pids(self) -> Sequence[int]:
        return [pid for node in self.nodes for pid in node.pids]

    def start(self) -> None:
        """Start those that are not running, and wait until all are there."""
        for node in self.nodes:
            if not node.alive():
                node.launch()
        try:
            self._until(lambda: len(self._admin.list_topics(timeout=2).brokers) == COUNT, "all brokers are there")
        except NoBroker:
            self.stop()
            raise

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def await_in_sync(self, topics: Sequence[str]) -> None:
        """Wait until every replica of these topics is in sync."""

        def all_in_sync() -> bool:
            described = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=ADMIN_SECONDS)
            found = [future.result(ADMIN_SECONDS) for future in described.values()]
            return all(len(each.isr) == len(each.replicas) for topic in found for each in topic.partitions)

        self._until(all_in_sync, "all replicas are in sync")

    def leader_of(self, topic: str, partition: int) -> ClusterNode:
        found: list[ClusterNode] = []

        def look() -> bool:
            described = self._admin.describe_topics(TopicCollection([topic]), request_timeout=ADMIN_SECONDS)
            leader = described[topic].result(ADMIN_SECONDS).partitions[partition].leader
            found.extend([] if leader is None else [self.nodes[leader.id - 1]])
            return bool(found)

        self._until(look, f"{topic} {partition} has a leader")
        return found[0]

    def _until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if done():
                    return
            except (KafkaException, TimeoutError):
                pass
            time.sleep(0.2)
        raise NoBroker(f"it is not so that {what} after {START_SECONDS} s")


class ProxiedBroker(LocalBroker):
    """A broker with two ways in: one for the test, and one through a proxy, for those who are to have a bad network."""

    def __init__(self, java: str, directory: Path) -> None:
        super().__init__(java, directory)
        (inner,) = free_ports(1)
        self.proxy = Proxy(inner)
        self.through = f"127.0.0.1:{self.proxy.port}"
        self._settings |= {
            "listeners": f"{self._settings['listeners']},THROUGH://127.0.0.1:{inner}",
            "advertised.listeners": f"{self._settings['advertised.listeners']},THROUGH://{self.through}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,THROUGH:PLAINTEXT",
        }

    def stop(self) -> None:
        self.proxy.close()
        super().stop()


def three_brokers() -> ThreeBrokers:
    """Start three brokers. Raises NoBroker."""
    brokers = ThreeBrokers(ready_java())
    brokers.start()
    return brokers


def proxied_broker() -> ProxiedBroker:
    """Start a broker behind a proxy. Raises NoBroker."""
    broker = ProxiedBroker(ready_java(), broker_directory())
    broker.start()
    return broker
