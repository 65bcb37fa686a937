"""The programming model and the replay core. Pure: no Kafka, no RocksDB, no clock, no threads, no randomness."""
