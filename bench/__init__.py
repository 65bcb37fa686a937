"""The benchmark: the engine against a bare loop on the same warm broker, with every result checked. `make bench` runs it."""
