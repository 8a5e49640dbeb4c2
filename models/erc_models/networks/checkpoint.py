"""Checkpoints: a trained network with everything that is needed to run it.

A checkpoint is a folder with

- ``config.json``: architecture and sizes, labels, temperatures, specification of the features, text window;
- ``model.safetensors``: the conversation network, weights in fp16, the acoustic normalisation in fp32;
- ``text_encoder/``: the text encoder in fp16 with its tokenizer, as transformers saves them; ``config.json``
  names another folder (``text_encoder_folder``) where checkpoints share an encoder;
- ``README.md``: the model card: data, licence, scores, limits.

A checkpoint is named after its folder. Weights are fp32 in memory.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from erc_models.formats.checkpoint_files import (
    FORMAT,
    CheckpointProblem,
    build,
    read_config,
    text_encoder_folder,
)
from erc_models.formats.text_windows import TextEncoderConfig
from erc_models.networks.calibration import Calibration
from erc_models.networks.linear import Linear, LinearConfig
from erc_models.networks.mmmie import Mmmie, MmmieConfig
from erc_models.networks.multiemo import MultiEmo, MultiEmoConfig
from erc_models.networks.sentemocontext import SentEmoContext, SentEmoContextConfig
from erc_models.networks.si_lstm import SiLstm, SiLstmConfig
from erc_models.networks.speaker_multitask import SpeakerMultitask, SpeakerMultitaskConfig
from erc_models.networks.streaming import StreamingModel
from erc_models.networks.text_encoder import TextEncoder

ARCHITECTURES: Mapping[str, tuple[type[StreamingModel], type]] = {
    "si_lstm": (SiLstm, SiLstmConfig),
    "multiemo": (MultiEmo, MultiEmoConfig),
    "mmmie": (Mmmie, MmmieConfig),
    "sentemocontext": (SentEmoContext, SentEmoContextConfig),
    "speaker_multitask": (SpeakerMultitask, SpeakerMultitaskConfig),
    "linear": (Linear, LinearConfig),
}
"""Name -> (network, its configuration). A new network is one file and one entry."""

_FP16_MAX = 65504.0


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded checkpoint; everything in it is read-only.

    Attributes:
        name: its folder's name.
        architecture: a key of `ARCHITECTURES`.
        network: the conversation network in eval mode; it takes acoustic features in their own units.
        labels: the emotions, in the order of the logits.
        temperature: logits are divided by it before softmax.
        features: specification of the features, ``{"acoustic": {...}, "text": {...}}``.
        text_encoder: the text encoder in eval mode, or None.
        about: scores, data and other records of the training.
        temperatures: temperatures for turns with certain modalities, see `Calibration`.
    """

    name: str
    architecture: str
    network: StreamingModel
    labels: tuple[str, ...]
    temperature: float = 1.0
    features: dict = field(default_factory=dict)
    text_encoder: TextEncoder | None = None
    about: dict = field(default_factory=dict)
    temperatures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def calibration(self) -> Calibration:
        """The checkpoint's temperatures."""
        return Calibration(self.temperature, self.temperatures)


def save(folder: Path, checkpoint: Checkpoint, card: str, text_encoder_folder: str = "text_encoder") -> None:
    """Write a checkpoint to a folder, creating the folder if necessary.

    Args:
        folder: the folder; its name becomes the checkpoint's.
        checkpoint: what to write; its weights are rounded to fp16.
        card: the model card, Markdown.
        text_encoder_folder: folder of the text encoder, relative to `folder`. A shared encoder that is
            there already is not written again.

    Raises:
        CheckpointProblem: a weight is outside the range of fp16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = checkpoint.network
    buffers = {name for name, _ in network.named_buffers()}
    stored = {}
    for name, tensor in network.state_dict().items():
        if name.split(".")[0] in network.TRAINING_ONLY:
            continue
        tensor = tensor.detach().cpu()
        if name not in buffers:  # the normalisation needs more than fp16's range
            if not bool((tensor.abs() <= _FP16_MAX).all()):
                raise CheckpointProblem(
                    f"expected weights within +-{_FP16_MAX:.0f}, got {tensor.abs().max()} in {name}"
                )
            tensor = tensor.half()
        stored[name] = tensor.contiguous()
    save_file(stored, folder / "model.safetensors")
    encoder = checkpoint.text_encoder
    encoder_path = folder / text_encoder_folder
    if encoder is not None and not (text_encoder_folder != "text_encoder" and encoder_path.is_dir()):
        copy.deepcopy(encoder.model).half().save_pretrained(encoder_path)
        encoder.tokenizer.save_pretrained(encoder_path)
    config = {
        "format": FORMAT,
        "architecture": checkpoint.architecture,
        "network": asdict(network.config),
        "labels": list(checkpoint.labels),
        "temperature": checkpoint.temperature,
        **({"temperatures": dict(checkpoint.temperatures)} if checkpoint.temperatures else {}),
        "features": checkpoint.features,
        "text_encoder": None if encoder is None else asdict(encoder.config),
        "text_encoder_folder": text_encoder_folder,
        "about": checkpoint.about,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def load(folder: Path, device: torch.device | str = "cpu", *, text_encoder: bool = True) -> Checkpoint:
    """Load a checkpoint onto a device.

    Args:
        folder: the checkpoint.
        device: for its weights.
        text_encoder: whether to load the text encoder, too; see `load_text_encoder`.

    Raises:
        CheckpointProblem: a file is missing or damaged, the architecture is unknown, or shapes are wrong.
    """
    config = read_config(folder)
    try:
        architecture, labels = config["architecture"], tuple(config["labels"])
        if architecture not in ARCHITECTURES:
            raise CheckpointProblem(
                f"{folder}: expected an architecture of {', '.join(ARCHITECTURES)}, got {architecture!r}"
            )
        model_type, config_type = ARCHITECTURES[architecture]
        network = model_type(build(config_type, config["network"], f"{folder}/config.json, network"))
        _load_weights(network, folder / "model.safetensors")
        if network.config.classes != len(labels):
            raise CheckpointProblem(
                f"{folder}: expected {network.config.classes} labels, got {len(labels)}: {', '.join(labels)}"
            )
        calibration = Calibration(
            float(config["temperature"]),
            {key: tuple(map(float, values)) for key, values in config.get("temperatures", {}).items()},
        )
        calibration.check(len(network.config.audio_groups), len(labels))
        encoder = None
        if config["text_encoder"] is not None:
            encoder = load_text_encoder(folder, device) if text_encoder else None
        features, about = dict(config["features"]), dict(config.get("about", {}))
    except CheckpointProblem:
        raise
    except KeyError as error:
        raise CheckpointProblem(f"{folder}/config.json: expected the key {error}, found none") from error
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointProblem(
            f"{folder}/config.json: expected a usable configuration, got {reason}"
        ) from error
    return Checkpoint(
        name=folder.resolve().name,
        architecture=architecture,
        network=network.to(device).eval().requires_grad_(False),
        labels=labels,
        temperature=calibration.temperature,
        features=features,
        text_encoder=encoder,
        about=about,
        temperatures=calibration.temperatures,
    )


def _load_weights(network: StreamingModel, path: Path) -> None:
    if not path.is_file():
        raise CheckpointProblem(f"expected weights at {path}, found no such file")
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise CheckpointProblem(f"{path}: expected safetensors, got {error}") from error
    training_only = {
        k: v for k, v in network.state_dict().items() if k.split(".")[0] in network.TRAINING_ONLY
    }
    expected = {k: v for k, v in network.state_dict().items() if k not in training_only}
    for name in sorted(expected.keys() | stored.keys()):
        want = tuple(expected[name].shape) if name in expected else None
        got = tuple(stored[name].shape) if name in stored else None
        if want != got:
            raise CheckpointProblem(f"{path}: expected {name} of shape {want}, got {got}")
        if not bool(stored[name].isfinite().all()):
            raise CheckpointProblem(f"{path}: expected finite weights, got NaN or infinity in {name}")
    network.load_state_dict(training_only | {name: tensor.float() for name, tensor in stored.items()})


def load_text_encoder(folder: Path, device: torch.device | str = "cpu") -> TextEncoder | None:
    """Load the text encoder of a checkpoint onto a device; return None if it has none.

    Raises:
        CheckpointProblem: a file is missing or damaged, or its features are not of the network's size.
    """
    config = read_config(folder)
    if config["text_encoder"] is None:
        return None
    settings = build(TextEncoderConfig, config["text_encoder"], f"{folder}/config.json, text_encoder")
    place = text_encoder_folder(folder, config)
    if not (place / "config.json").is_file():
        raise CheckpointProblem(f"expected a text encoder in {place}, found none")
    try:
        encoder = TextEncoder.from_pretrained(place, settings)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointProblem(f"{place}: expected a transformers encoder, got {reason}") from error
    dim = config["network"].get("text_dim", encoder.dim)
    if encoder.dim != dim:
        raise CheckpointProblem(f"{place}: expected text features of size {dim}, got {encoder.dim}")
    return encoder.float().to(device).eval().requires_grad_(False)
