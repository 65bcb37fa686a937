"""Stores on RocksDB: the only place that imports `rocksdict`."""

from .store import RocksStore, RocksStores, StoreSettings

__all__ = ["RocksStore", "RocksStores", "StoreSettings"]
