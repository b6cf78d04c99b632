"""What this process may use of its machine."""

import os


def usable_cores() -> int:
    """Return the number of cores: what a container or taskset leaves, not what the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
