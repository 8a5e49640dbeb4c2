from dataclasses import replace
from pathlib import Path

import pytest
import torch
from erc_models.networks import checkpoint
from erc_models.training import soup


def test_the_mean_of_two_networks_and_their_encoders(tiny_checkpoint: Path, tmp_path: Path) -> None:
    one, two = checkpoint.load(tiny_checkpoint), checkpoint.load(tiny_checkpoint)
    assert two.text_encoder is not None
    with torch.no_grad():
        for parameter in [*two.network.parameters(), *two.text_encoder.parameters()]:
            parameter.add_(0.5)
    checkpoint.save(tmp_path / "two", two, "# Two\n")
    soup.main([str(tiny_checkpoint), str(tmp_path / "two"), "--out", str(tmp_path / "mean")])
    made = checkpoint.load(tmp_path / "mean")
    assert made.labels == one.labels
    assert made.about["mean_of"] == 2
    assert made.text_encoder is not None
    assert one.text_encoder is not None
    for module, like in ((made.network, one.network), (made.text_encoder, one.text_encoder)):
        for a, b in zip(module.parameters(), like.parameters(), strict=True):
            torch.testing.assert_close(a, b + 0.25, atol=2e-3, rtol=0)


def test_only_checkpoints_of_a_kind_are_averaged(tiny_checkpoint: Path) -> None:
    one = checkpoint.load(tiny_checkpoint)
    with pytest.raises(ValueError, match="tiny: expected the labels of tiny"):
        soup.average([one, replace(one, labels=tuple(reversed(one.labels)))])
