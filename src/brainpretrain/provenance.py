"""By which code, with which versions and on which machine a result was made."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def facts() -> dict[str, Any]:
    """Commit, start time (UTC), hardware and versions, for run.json."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "commit": commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": f"{device}, {os.cpu_count()} CPU cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": version("lightning"),
        "brainpretrain": version("brainpretrain"),
    }


def _processor() -> str:
    """Model name of the CPU; its architecture where /proc/cpuinfo does not name it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str:
    """Git commit of the project, with '+' when files differ from it; '' outside a repository."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changed.stdout.strip() else "")
