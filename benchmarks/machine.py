"""Name of the machine in the tables of the benchmarks."""

import platform
from pathlib import Path


def cpu_name() -> str:
    """Model name of the CPU, else what the platform module gives."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


if __name__ == "__main__":
    print(cpu_name())
