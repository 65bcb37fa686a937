"""The vocabulary on the wire: history events, inbox messages, log records and their Avro codec."""
