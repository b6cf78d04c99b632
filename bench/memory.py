"""Peak memory of running a graph, measured in a process of its own.

Within one process the number would mean little: memory that an earlier graph freed is used again
unseen, and a peak never falls. Run as a module, this file is that process.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.results import Memory
from engines.runtime import Arrays
from ptame_deploy.errors import CheckFailedError, MissingRequirementError

_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")  # writing 5 sets VmHWM back to what is held now
_RUNS = 3
_TIMEOUT_SECONDS = 600
# By default glibc moves this threshold with what was freed before, and with it how much freed
# memory stays resident: the same graph was seen to take 310 or 361 MB by what had run before it.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}


def peak_memory(graph: Path, inputs: Arrays, *, threads: int = 0) -> Memory:
    """Run a graph a few times in a fresh process and return how much memory it took.

    Args:
        graph: the ONNX file.
        inputs: every input by name.
        threads: threads within an operator; 0 for one a core.

    Returns:
        Resident memory in MB (1e6 bytes) above what the process held, with ONNX Runtime imported
        and the inputs made, before it opened the graph: the peak of loading and running, the peak
        while running alone, and what was held once the graph was open. Large blocks that were
        freed do not count (glibc's threshold for them is held at its first value, 128 KiB).

    Raises:
        MissingRequirementError: no Linux; resident memory is read from /proc.
        CheckFailedError: the process failed.
    """
    if not _STATUS.exists():
        message = "peak memory is read from /proc, which this system does not have"
        raise MissingRequirementError(message)
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="ptame-memory-") as folder:
        arrays = Path(folder) / "inputs.npz"
        np.savez(arrays, allow_pickle=False, **inputs)
        # -P: a folder called bench where the user stands must not take this package's place.
        command = [sys.executable, "-P", "-m", "bench.memory"]
        command += [str(graph), str(arrays), str(threads)]
        try:
            done = subprocess.run(  # noqa: S603 (our own module)
                command,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
                env=os.environ | _MALLOC,
            )
        except subprocess.TimeoutExpired as error:
            message = f"the process that measures memory took over {_TIMEOUT_SECONDS} s"
            raise CheckFailedError(message) from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        message = f"the process that measures memory failed: {last}"
        raise CheckFailedError(message)
    return Memory.model_validate_json(done.stdout)


def _measure(graph: Path, arrays: Path, threads: int) -> Memory:
    import numpy as np

    from engines.onnx_runtime import OnnxRuntime
    from ptame_deploy.onnx_session import check_onnxruntime

    check_onnxruntime()
    import onnxruntime  # noqa: F401 (its code is not the graph's memory)

    with np.load(arrays, allow_pickle=False) as file:
        inputs = {name: file[name] for name in file.files}
    before = resident_bytes("VmRSS")
    runtime = OnnxRuntime(graph, threads=threads)
    opened = resident_bytes("VmRSS")
    # VmHWM starts anew with the process; getrusage's ru_maxrss would inherit the parent's peak.
    load_peak = resident_bytes("VmHWM")
    # Loading holds the weights twice for a moment, which would hide what running takes.
    reset_peak()
    for _ in range(_RUNS):
        runtime.run(inputs)
    run_peak = resident_bytes("VmHWM")
    return Memory(
        peak_mb=(max(load_peak, run_peak) - before) / 1e6,
        run_peak_mb=(run_peak - before) / 1e6,
        after_opening_mb=(opened - before) / 1e6,
    )


def reset_peak() -> None:
    """Set this process's peak back to what it holds now."""
    _RESET_PEAK.write_text("5", encoding="ascii")


def resident_bytes(field: str, status: Path = _STATUS) -> int:
    """Return a process's resident memory: ``VmRSS`` is held now, ``VmHWM`` was the peak.

    Args:
        field: which of the two.
        status: ``/proc/PID/status`` of the process; this one's by default.

    Raises:
        MissingRequirementError: the system does not tell, or the process has ended.
    """
    for line in status.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    message = f"{status} does not name {field}"
    raise MissingRequirementError(message)


if __name__ == "__main__":
    found = _measure(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(json.dumps(found.model_dump()))
