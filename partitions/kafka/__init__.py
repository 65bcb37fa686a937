"""The log on Kafka: the only place that imports `confluent_kafka`."""

from .admin import HubDescription, TopicDescription, check_topics, create_hub, describe_hub
from .log import KafkaLog
from .membership import KafkaMembership
from .properties import FIXED
from .settings import KafkaSettings

__all__ = [
    "FIXED",
    "HubDescription",
    "KafkaLog",
    "KafkaMembership",
    "KafkaSettings",
    "TopicDescription",
    "check_topics",
    "create_hub",
    "describe_hub",
]
