"""Networks in ONNX files, run with ONNX Runtime on one thread."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from stream_erc.exceptions import EngineUnavailable

if TYPE_CHECKING:
    import onnxruntime


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


def open_network(path: Path, what: str) -> "onnxruntime.InferenceSession":
    """Open an ONNX file; `what` names the network in errors.

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
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises pybind classes without a public base
        reason = str(error).splitlines()[0]
        raise EngineUnavailable(f"{path}: expected the {what} network, got {reason}") from error
