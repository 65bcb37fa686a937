"""The adversarial log and the store in memory, for simulation and tests."""
