"""Average the weights of checkpoints from the same initial weights: a model soup (Wortsman et al., 2022).

``python -m erc_models.training.soup SEED_0 SEED_1 ... --out DIR`` writes one checkpoint whose network and
text encoder are the means of theirs. Runs with the same initial weights and different seeds lie in one basin
of the loss; their mean is often better than each of them, at the cost of one.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from erc_models.networks.checkpoint import Checkpoint, load, save


def average(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Average the weights of checkpoints; everything else is the first checkpoint's.

    Args:
        checkpoints: checkpoints of one architecture, configuration, label set and text window.

    Raises:
        ValueError: they differ in one of these.
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
    """Run the command line; see the module's docstring."""
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
