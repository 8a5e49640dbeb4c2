"""Networks in ONNX files, run with ONNX Runtime on one thread, or on a GPU where it can."""

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from stream_erc.exceptions import EngineUnavailable

if TYPE_CHECKING:
    import onnxruntime

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
"""Segments have any length: an exhaustive search would run for each. Single precision, as on a CPU."""

log = logging.getLogger(__name__)


def shipped_network(name: str) -> Path:
    """Return the ONNX file of a network that ships beside the checkpoints, such as ``campplus``.

    Raises:
        EngineUnavailable: this installation has none.
    """
    spec = importlib.util.find_spec("erc_models")
    assert spec is not None and spec.origin is not None, "erc_models is a part of the distribution"
    package = Path(spec.origin).resolve().parent
    paths = [place / "checkpoints" / name / "model.onnx" for place in (package, package.parent)]
    for path in paths:  # in an installed wheel, in a checkout
        if path.is_file():
            return path
    raise EngineUnavailable(f"expected the network {name} at {paths[0]} or {paths[1]}, got no such file")


def runs_on_gpu() -> bool:
    """Return whether ONNX Runtime is installed for CUDA (``onnxruntime-gpu``)."""
    try:
        import onnxruntime
    except ImportError:
        return False
    return CUDA in onnxruntime.get_available_providers()


def open_network(path: Path, what: str, *, gpu: bool = False) -> "onnxruntime.InferenceSession":
    """Open an ONNX file.

    Args:
        path: the file.
        what: names the network in errors.
        gpu: whether to compute on the GPU; the CPU does, with a warning, where ONNX Runtime cannot.

    Raises:
        EngineUnavailable: no such file, or onnxruntime is not installed or cannot read it.
    """
    if not path.is_file():
        raise EngineUnavailable(f"expected the {what} network, got no file {path}")
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailable(f"{what} expected onnxruntime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # sessions run beside one another: threads would only add latency
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # an arena would never free the memory of the largest batch
    providers = [(CUDA, CUDA_OPTIONS), CPU] if gpu and runs_on_gpu() else [CPU]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime raises pybind classes without a public base
        reason = str(error).splitlines()[0]
        raise EngineUnavailable(f"{path}: expected the {what} network, got {reason}") from error
    if gpu and CUDA not in session.get_providers():
        log.warning("%s runs on the CPU: ONNX Runtime has no CUDA here (pip install onnxruntime-gpu)", what)
    return session
