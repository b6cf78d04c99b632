"""Naming the machine that figures were taken on."""

import platform
from pathlib import Path

from bench.results import Device
from engines.gpu import find_gpu
from ptame_deploy.machine import usable_cores


def describe_device() -> Device:
    """Return the processor's model, the cores that this process may use, the system and the GPU."""
    gpu = find_gpu()
    return Device(
        cpu=_cpu_model(),
        cores=usable_cores(),
        system=f"{platform.system()} {platform.machine()}",
        gpu=str(gpu) if gpu else None,
    )


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
