"""The device that networks run on. Where there is no driver of a GPU, torch is not imported to say so."""

import os
import sys
from ctypes import CDLL
from typing import Literal

from stream_erc.exceptions import DeviceError
from stream_erc.inference.onnx_network import runs_on_gpu

Device = Literal["auto", "cpu", "cuda"]


def on_gpu(device: Device | str) -> bool:
    """Return whether ``auto``, ``cpu`` or ``cuda`` means the GPU: ``auto`` does if there is one.

    Raises:
        DeviceError: CUDA was requested, but is not available.
    """
    wanted = device.startswith("cuda")
    if device == "cpu" or not (wanted or _has_driver()):
        return False
    import torch

    if torch.cuda.is_available():
        return True
    if wanted:
        raise DeviceError("expected a CUDA device (--device cuda), found none: use --device cpu or auto")
    return False


def compute_devices() -> list[str]:
    """Return descriptions of the devices that networks can run on: the CPU and each CUDA device."""
    cpu = f"cpu ({os.cpu_count()} cores)"
    if not _has_driver():
        return [cpu]
    import torch

    voices = "" if runs_on_gpu() else "; voices on the CPU: without onnxruntime-gpu"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [cpu] + [f"cuda:{i} ({name}{voices})" for i, name in enumerate(names)]


def _has_driver() -> bool:
    try:
        CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
