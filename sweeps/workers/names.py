"""Names of devices: what the system calls its processor and its cards."""

from __future__ import annotations

import os
import subprocess

from sweeps.workers.launch import environment
from trainer.machine.cpu import processor


def device_name(device: str) -> str:
    """Ask the system for the name of the processor or the card; torch would take GPU memory to answer."""
    if device.partition(":")[0] == "cuda":
        card = environment(device, threads=1, inherited=os.environ)["CUDA_VISIBLE_DEVICES"]
        return output(("nvidia-smi", f"--id={card}", "--query-gpu=name", "--format=csv,noheader")) or device
    return processor() or device


def kind_of(device: str) -> str:
    """Return the kind of a device: its name, or "cuda" for all cards that the system has no name for."""
    name = device_name(device)
    return device.partition(":")[0] if name == device else name


def output(command: tuple[str, ...]) -> str:
    """Return what a system command prints; "" where it doesn't exist, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
