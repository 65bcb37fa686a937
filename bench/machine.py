"""The machine that figures are of."""

import os
import platform
from importlib.metadata import version

import psutil


def machine_description() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("confluent-kafka", "rocksdict", "fastavro", "orjson"))
    memory = psutil.virtual_memory().total // 2**30
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory} GB, "
        f"{platform.python_implementation()} {platform.python_version()}, {libraries}. Client, engine and broker share the machine."
    )
