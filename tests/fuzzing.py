"""How hard the fuzzed tests try: a glance in every run, `make fuzz` for as many times that as it is told."""

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))


def fuzzed(examples: int) -> settings:
    """Settings of a test that looks at so many examples in an ordinary run."""
    return settings(max_examples=examples * FACTOR, suppress_health_check=list(HealthCheck))
