"""Score a checkpoint on a corpus, causally, as it ships: text encoder, network, temperatures.

``python -m erc_models.evaluation.evaluate --checkpoint NAME|DIR --data FILE`` prints weighted F1, macro-F1,
accuracy, recall, scores without neutral, MCC, calibration, scores per class and by turn, with bootstrap
intervals over dialogues; ``--json`` prints them as JSON and ``--store FILE`` writes them to a file. FILE is

- a corpus in a layout of `releases.read`; its voice is its prosody, if it has some, or ``--audio SET``;
- a feature set (``.safetensors``, see `feature_store`), scored without the text encoder;
- acoustic features of clips (``.npz`` of `scripts/extract_features`): the unaltered clips of split dev, each
  as a conversation of its own (alone) and in dialogues of one speaker's clips (together).

``--wer 0,10,20,35,50`` simulates a recognizer's errors (percent of the words; 0 removes only casing and
punctuation), ``--speaker-swaps 0,10,20,40`` assigns that percentage of the turns to another speaker of the
dialogue, ``--one-speaker`` all turns to one. With several conditions (``--condition all,text``) the first is
compared with each of the others on the same turns.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from erc_models.data import releases
from erc_models.data.datasets import Dialogue
from erc_models.data.feature_store import CONDITIONS, FeatureSet
from erc_models.data.text_features import default_cache
from erc_models.evaluation import evaluation_sets
from erc_models.evaluation.evaluation_report import Request, Result, as_json, command_of, report
from erc_models.evaluation.prediction import predict, readable
from erc_models.evaluation.speaker_scores import score_speakers
from erc_models.formats.checkpoint_files import resolve
from erc_models.networks.checkpoint import Checkpoint, load
from erc_models.networks.speaker_multitask import SpeakerMultitask


def evaluate(checkpoint: Checkpoint, request: Request) -> list[Result]:
    """Score a checkpoint.

    Changed dialogues are scored on the turns that were readable before the change, even if words were lost.

    Raises:
        ValueError: the data do not fit the checkpoint, or no turn is readable in a condition.
    """
    found = []
    for part, change, features, clean in _cases(checkpoint, request):
        for condition in request.conditions:
            scored = readable(clean, condition)
            if not scored.any():
                raise ValueError(
                    f"{request.data}: expected labelled turns with something to read in condition "
                    f"{condition!r}, got none (voices come from prosody in the corpus, or --audio)"
                )
            predictions = predict(checkpoint.network, features, condition, checkpoint.calibration, scored)
            found.append(Result(part, change, condition, _modalities(clean, condition, scored), predictions))
    return found


def _cases(checkpoint: Checkpoint, request: Request) -> Iterator[tuple[str, str, FeatureSet, FeatureSet]]:
    """Yield part, change, features, and the same features unchanged."""
    path = request.data
    if not path.exists():
        raise ValueError(f"{path}: expected a corpus, a feature set or features of clips, found no such file")
    text = any(condition != "audio" for condition in request.conditions)
    asked = request.wer or request.swaps or request.one_speaker or request.audio
    if path.suffix in (".safetensors", ".npz") and asked:
        wanted = "--wer, --speaker-swaps, --one-speaker and --audio need a corpus"
        raise ValueError(f"{path}: {wanted}, got {path.suffix}")

    def read(dialogues: Sequence[Dialogue], audio: np.ndarray) -> FeatureSet:
        return evaluation_sets.featurise(checkpoint, dialogues, audio, text=text, cache=request.cache)

    if path.suffix == ".safetensors":
        features = _fitting(FeatureSet.load(path), checkpoint, path)
        yield "", "", features, features
    elif path.suffix == ".npz":
        singly, audio = evaluation_sets.clips(path, checkpoint)
        singly = evaluation_sets.with_labels(singly, checkpoint.labels)
        features = read(singly, audio)
        yield "alone", "", features, features
        features = read(*evaluation_sets.together(singly, audio, request.seed))
        yield "together", "", features, features
    else:
        dialogues = evaluation_sets.with_labels(releases.read(path), checkpoint.labels)
        groups = tuple(checkpoint.network.config.audio_groups)
        if request.audio is not None:
            audio = evaluation_sets.voices_from(request.audio, dialogues, groups)
        else:
            audio = evaluation_sets.voices_of(checkpoint, dialogues)
        clean = read(dialogues, audio)
        yield "", "", clean, clean
        for wer in request.wer:
            changed = evaluation_sets.misheard(dialogues, wer, request.seed)
            yield "", f"WER {100 * wer:g}%", read(changed, audio), clean
        for share in request.swaps:
            changed = evaluation_sets.swapped(dialogues, share, request.seed)
            yield "", f"speaker swaps {100 * share:g}%", read(changed, audio), clean
        if request.one_speaker:
            yield "", "one speaker", read(evaluation_sets.merged(dialogues), audio), clean


def _fitting(features: FeatureSet, checkpoint: Checkpoint, path: Path) -> FeatureSet:
    config = checkpoint.network.config
    wanted = (checkpoint.labels, config.text_dim, tuple(config.audio_groups))
    came = (features.labels, features.text.shape[1], features.audio_groups)
    for name, expected, got in zip(("labels", "text features", "acoustic groups"), wanted, came, strict=True):
        if expected != got:
            raise ValueError(f"{path}: expected {name} {expected} as {checkpoint.name} has, got {got}")
    return features


def _modalities(features: FeatureSet, condition: str, scored: np.ndarray) -> tuple[str, ...]:
    """Return the modalities that any of the scored turns has in a condition."""
    present = {
        "text": condition != "audio" and bool(features.text_mask.numpy()[scored].any()),
        "audio": condition != "text" and bool(features.audio_mask.numpy()[scored].any()),
    }
    return tuple(name for name, some in present.items() if some)


def _percentages(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) / 100 for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected percentages such as 0,10,35, got {text!r}") from None
    if not all(0 <= value <= 1 for value in values):
        raise argparse.ArgumentTypeError(f"expected percentages from 0 to 100, got {text!r}")
    return values


def _conditions(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= set(CONDITIONS):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(CONDITIONS)}, got {text!r}")
    return names


def speaker_task(checkpoint: Checkpoint, request: Request) -> dict[str, float] | None:
    """Score the speaker task of a `SpeakerMultitask` network; return None for any other network."""
    if not isinstance(checkpoint.network, SpeakerMultitask):
        return None
    _, _, features, _ = next(_cases(checkpoint, request))
    device = next(checkpoint.network.parameters()).device
    batches = (features.batch([k]).to(device) for k in range(len(features)))
    return asdict(score_speakers(checkpoint.network, ((batch.x, batch.speaker) for batch in batches)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m erc_models.evaluation.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", required=True, help="a shipped checkpoint's name, or a folder")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--condition", type=_conditions, default=("all",), help=", ".join(CONDITIONS))
    parser.add_argument("--audio", type=Path, help="feature set with the voices of the corpus")
    parser.add_argument("--wer", type=_percentages, default=(), help="percentages, comma-separated")
    parser.add_argument("--speaker-swaps", type=_percentages, default=(), help="percentages")
    parser.add_argument("--one-speaker", action="store_true", help="as if nobody told speakers apart")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of text features")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--store", type=Path, help="write the JSON to this file")
    args = parser.parse_args(arguments)
    try:
        checkpoint = load(resolve(args.checkpoint), torch.device(args.device))
        request = Request(
            args.data,
            args.condition,
            args.audio,
            args.wer,
            args.speaker_swaps,
            args.one_speaker,
            args.seed,
            args.cache,
        )
        found = evaluate(checkpoint, request)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"evaluate: {str(error).splitlines()[0]}")
    stored = as_json(checkpoint, request, found, command_of("erc_models.evaluation.evaluate", arguments))
    stored |= {"speaker_task": task} if (task := speaker_task(checkpoint, request)) else {}
    text = json.dumps(stored, indent=1)
    if args.store is not None:
        args.store.parent.mkdir(parents=True, exist_ok=True)
        args.store.write_text(text + "\n", encoding="utf-8")
    if args.json:
        print(text)
    else:
        report(checkpoint.name, stored)


if __name__ == "__main__":
    main()
