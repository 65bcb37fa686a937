"""Perdure: durable execution on the Kafka you already run."""
