"""Facts about a network for the zoo: number of parameters, bytes of a state, time of a step."""

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict

import torch

from erc_models.formats.checkpoint_files import build
from erc_models.networks.checkpoint import ARCHITECTURES
from erc_models.networks.streaming import State, StreamingModel, TurnInput, state_bytes

TURNS = 40
"""Turns of a conversation of two speakers after which a state is measured and a step is timed."""


def facts(network: StreamingModel) -> dict:
    """Return configuration, causality, number of parameters at run time, and bytes of a state (or None)."""
    causal = is_causal(network)
    names = [(name.split(".")[0], p.numel()) for name, p in network.named_parameters()]
    return {
        "network": json.loads(json.dumps(asdict(network.config))),  # type: ignore[call-overload]
        "causal": causal,
        "parameters": sum(count for part, count in names if part not in network.TRAINING_ONLY),
        "state_bytes": state_bytes(_conversation(network)) if causal else None,
    }


def is_causal(network: StreamingModel) -> bool:
    """Return whether no turn's label depends on a later turn."""
    return not getattr(network.config, "offline", False)


def random_turn(network: StreamingModel) -> TurnInput:
    """Make a turn of one conversation with text and voice, (1, ...), on the network's device."""
    c = network.config
    return TurnInput(
        torch.randn(1, c.text_dim),
        torch.randn(1, sum(c.audio_groups)),
        torch.ones(1, dtype=torch.bool),
        torch.ones(1, len(c.audio_groups), dtype=torch.bool),
    ).to(next(network.parameters()).device)


@torch.no_grad()
def _conversation(network: StreamingModel) -> State:
    """Return the state of a conversation of two speakers after `TURNS` turns."""
    was_training = network.training
    network.eval()
    state, x = network.initial_state(), random_turn(network)
    for t in range(TURNS):
        _, state = network.step(x, torch.tensor([t % 2], device=x.text.device), state)
    network.train(was_training)
    return state


@torch.inference_mode()
def step_times(stored: Mapping[str, dict], runs: int = 15, repeat: int = 20) -> dict[str, float]:
    """Measure a step of each stored causal network, one conversation on one thread: median, ms.

    Processor time of the thread is measured, which other load affects less than wall-clock time. The
    networks have random weights, which cost as much as trained ones, and are timed in turn, so that load on
    the machine affects all alike.

    Args:
        stored: results by name, see `results`.
        runs: over which the median is taken.
        repeat: steps in a run.
    """
    steps = {}
    for name, row in stored.items():
        if row["causal"]:
            network_type, config_type = ARCHITECTURES[row["architecture"]]
            network = network_type(build(config_type, row["network"], f"{name}, network")).eval()
            steps[name] = (network, random_turn(network), torch.tensor([0]), _conversation(network))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in steps}
    try:
        for _ in range(runs):
            for name, (network, x, who, state) in steps.items():
                began = time.thread_time()
                for _ in range(repeat):
                    network.step(x, who, state)
                times[name].append(1000 * (time.thread_time() - began) / repeat)
    finally:
        torch.set_num_threads(threads)
    return {name: statistics.median(found) for name, found in times.items()}
