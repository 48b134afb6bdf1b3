"""What this processor has, as far as it says."""

from functools import cache
from pathlib import Path


@cache
def cpu_flags() -> frozenset[str]:
    """Read the processor's instruction sets, as Linux names them; none where nothing is known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()  # not Linux
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
