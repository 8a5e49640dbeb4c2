"""The text encoder on windows of many lengths: those of about one length together, none split twice.

A turn is read as the target once, then in the windows of the turns after it, so what was split into tokens is
remembered for a while: splitting takes longer than all else that a GPU leaves to the CPU.
"""

from collections.abc import Sequence

import numpy as np
import torch
from erc_models.formats.text_windows import TextWindow, WindowTokenizer, WindowTokens
from erc_models.networks.text_encoder import TextEncoder
from torch import Tensor

from stream_erc.inference.emotion.buckets import LENGTHS, bucket_of

KNOWN_TEXTS, KNOWN_CHARS = 16_384, 256
"""The number of texts whose tokens are remembered, and the longest: 100 MB at most, usually a tenth."""


class TextReader:
    """Reads windows of text on a device.

    Args:
        encoder: the text encoder, on the device.
        device: the device.
        lengths: the lengths that windows are padded to.
    """

    def __init__(self, encoder: TextEncoder, device: torch.device, lengths: Sequence[int] = LENGTHS) -> None:
        self._encoder, self._device, self._lengths = encoder, device, lengths
        vocabulary = encoder.tokenizer
        self._padding: int = vocabulary.pad_token_id or 0
        first, last = vocabulary.cls_token_id, vocabulary.sep_token_id
        self._tokens = WindowTokenizer(
            self._split,
            vocabulary.bos_token_id if first is None else first,
            vocabulary.eos_token_id if last is None else last,
            encoder.config,
        )
        self._known: dict[str, list[int]] = {}

    def __call__(self, windows: Sequence[TextWindow]) -> Tensor:
        """Return the text features (N, D), float32, on the device."""
        text = torch.zeros(len(windows), self._encoder.dim, device=self._device)
        found = self._tokens(windows)
        groups: dict[int, list[int]] = {}
        for i, window in enumerate(found):
            groups.setdefault(bucket_of(len(window.ids), self._lengths), []).append(i)
        for length, places in groups.items():
            ids, attention, target = self._padded([found[i] for i in places], length)
            text[sent(torch.tensor(places), self._device)] = self._encoder(ids, attention, target).float()
        return text

    def _padded(self, windows: Sequence[WindowTokens], length: int) -> list[Tensor]:
        """Return ids, attention mask and target mask, each (B, T), on the device."""
        ids = np.full((len(windows), length), self._padding, dtype=np.int64)
        masks = np.zeros((2, len(windows), length), dtype=np.int64)
        for i, window in enumerate(windows):
            ids[i, : len(window.ids)] = window.ids
            masks[0, i, : len(window.ids)] = 1
            masks[1, i, window.target] = 1
        return [sent(torch.from_numpy(array), self._device) for array in (ids, *masks)]

    def _split(self, texts: list[str]) -> list[list[int]]:
        known = self._known
        new = [text for text in dict.fromkeys(texts) if text not in known]
        ids = self._encoder.tokenizer(new, add_special_tokens=False)["input_ids"] if new else []
        found = dict(zip(new, ids, strict=True))
        result = [found[text] if text in found else known[text] for text in texts]
        if len(known) + len(found) > KNOWN_TEXTS:
            self._known = known = {}
        known.update((text, found[text]) for text in new if len(text) <= KNOWN_CHARS)
        return result


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on the device, which copies it when its turn comes: nobody waits for it."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
