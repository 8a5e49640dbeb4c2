"""Average the weights of checkpoints that began alike: a model soup (Wortsman et al., 2022).

``python -m erc_models.training.soup SEED_0 SEED_1 ... --out DIR`` writes one checkpoint whose network and
text encoder are the means of theirs. Runs that began at the same weights and differ in their seed alone lie
in one basin; their mean is often better than each, and costs no more to run than one.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from erc_models.networks.checkpoint import Checkpoint, load, save


def average(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The checkpoint of mean weights; everything else is the first one's.

    Args:
        checkpoints: of one architecture, one configuration, the same labels and the same text window.

    Raises:
        ValueError: they are not.
    """
    first = checkpoints[0]
    for other in checkpoints[1:]:
        for name, mine, theirs in (
            ("architecture", first.architecture, other.architecture),
            ("network", first.network.config, other.network.config),
            ("labels", first.labels, other.labels),
            ("text window", _window(first), _window(other)),
        ):
            if mine != theirs:
                raise ValueError(f"{other.name}: expected the {name} of {first.name}, {mine}, got {theirs}")
    _average_into(first.network, [c.network for c in checkpoints])
    if first.text_encoder is not None:
        _average_into(first.text_encoder, [c.text_encoder for c in checkpoints if c.text_encoder is not None])
    return first


def _window(checkpoint: Checkpoint) -> object:
    return None if checkpoint.text_encoder is None else checkpoint.text_encoder.config


@torch.no_grad()
def _average_into(target: nn.Module, parts: Sequence[nn.Module]) -> None:
    states = [part.state_dict() for part in parts]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    target.load_state_dict(mean)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    made = average([load(folder) for folder in args.checkpoints])
    made.about["mean_of"] = len(args.checkpoints)
    save(args.out, made, f"# {args.out.name}\n\nThe mean of the weights of {len(args.checkpoints)} runs.\n")


if __name__ == "__main__":
    main()
