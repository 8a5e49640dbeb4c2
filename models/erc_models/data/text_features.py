"""Text features of many turns, cached on disk in a file for each encoder and text."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from erc_models.formats.text_windows import TextWindow
from erc_models.networks.text_encoder import TextEncoder


def default_cache() -> Path:
    """Return the default cache, in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "stream_erc" / "text_features"


def text_features(
    encoder: TextEncoder, windows: Sequence[TextWindow], cache: Path | None = None, size: int = 64
) -> Tensor:
    """Compute the text features (N, D) of windows, float32 on the CPU.

    Args:
        encoder: in eval mode, on the device to use.
        windows: N turns with the turns before them.
        cache: folder of cached features, or None.
        size: windows in a batch; a batch has windows of similar length.
    """
    if not windows:
        return torch.zeros(0, encoder.dim)
    path = cache / f"{_key(encoder, windows)}.safetensors" if cache is not None else None
    if path is not None and path.is_file():
        return load_file(path)["text"]
    found = _compute(encoder, windows, size)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")  # so that no reader finds half a file
        save_file({"text": found}, unfinished)
        unfinished.replace(path)
    return found


@torch.inference_mode()
def _compute(encoder: TextEncoder, windows: Sequence[TextWindow], size: int) -> Tensor:
    device = next(encoder.parameters()).device
    order = sorted(range(len(windows)), key=lambda i: _length(windows[i]))
    found = torch.empty(len(windows), encoder.dim)
    for first in range(0, len(order), size):
        part = order[first : first + size]
        tokens = {k: v.to(device) for k, v in encoder.tokenize([windows[i] for i in part]).items()}
        found[part] = encoder(**tokens).float().cpu()
    return found


def _length(window: TextWindow) -> int:
    return len(window.text) + sum(len(text) for _, text in window.past)


def _key(encoder: TextEncoder, windows: Sequence[TextWindow]) -> str:
    """Hash everything that the features depend on: weights, vocabulary, window, text."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        hashed.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        hashed.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    about = {
        "config": asdict(encoder.config),
        "model": str(encoder.model.config.model_type),
        "heads": getattr(encoder.model.config, "num_attention_heads", 0),
        "tokens": sorted(encoder.tokenizer.get_vocab().items()),
        "windows": [[list(map(list, w.past)), w.speaker, w.text] for w in windows],
    }
    hashed.update(json.dumps(about).encode())
    return hashed.hexdigest()
