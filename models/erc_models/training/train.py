"""Train a conversation network, alone or together with its text encoder.

``python -m erc_models.training.train --config FILE --out DIR --features DIR`` reads the feature sets that the
configuration names (``DIR/<name>.safetensors``, see `feature_store`), trains, selects the epoch and fits the
temperature on dev, and writes a checkpoint. An epoch of MELD takes seconds on two CPU cores.

With a table ``[text_encoder]`` in the configuration the sets are corpora instead: ``meld_train`` is
``--corpora DIR``'s ``meld/train.jsonl.gz``, and the encoder of ``--text-encoder`` (a transformers model's
name or folder) is trained with the network.

``--seeds 0,1,2`` trains once per seed into ``OUT/seed_0`` ... and stores the predictions of all of them for
the dev sets in ``--results DIR`` for the model zoo. An interrupted run resumes after its last epoch.
"""

import argparse
import copy
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from erc_models.data.feature_store import CONDITIONS
from erc_models.evaluation import results
from erc_models.evaluation.evaluation_report import command_of
from erc_models.evaluation.metrics import Predictions
from erc_models.evaluation.prediction import positions
from erc_models.formats.checkpoint_files import build, resolve, text_encoder_folder
from erc_models.formats.checkpoint_files import read_config as read_checkpoint_config
from erc_models.formats.text_windows import TextEncoderConfig
from erc_models.networks.checkpoint import ARCHITECTURES, Checkpoint, load, save
from erc_models.networks.si_lstm import SiLstm
from erc_models.networks.streaming import StreamingModel
from erc_models.networks.text_encoder import TextEncoder
from erc_models.training import label_bias
from erc_models.training.fine_tuning import prepare_encoder
from erc_models.training.learner import Corpus, Learner, dev_scores, labelled_logits
from erc_models.training.run_config import RunConfig, read_config
from erc_models.training.trainer import Trained, train
from erc_models.training.training_sets import frozen_corpora, word_corpora

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """The folders and files that a run reads, and its device."""

    features: Path | None = None
    corpora: Path | None = None
    text_encoder: str | None = None
    device: str = "cpu"
    voice: Path | None = None
    words: str | None = None


def run(config: RunConfig, sources: Sources, keep: Path | None = None) -> tuple[Trained, dict[str, Corpus]]:
    """Run a training; return its result and the dev sets.

    Raises:
        ValueError: a set or a source of the configuration is missing.
    """
    if not config.data.train or not config.data.dev:
        raise ValueError("data: expected the names of train and dev sets, got none")
    encoder = None
    if config.text_encoder is not None:
        if sources.corpora is None or sources.text_encoder is None:
            raise ValueError("[text_encoder]: expected --corpora and --text-encoder, got not both")
        window = TextEncoderConfig(
            config.text_encoder.past_turns,
            config.text_encoder.max_past_tokens,
            config.text_encoder.max_target_tokens,
        )
        encoder = prepare_encoder(TextEncoder.from_pretrained(sources.text_encoder, window))
        training, dev = word_corpora(config.data, sources.corpora, config.text_encoder, encoder.dim)
    elif sources.features is None:
        raise ValueError("expected --features, got none")
    else:
        training, dev = frozen_corpora(config.data, sources.features)
    network, sizes = ARCHITECTURES[config.architecture]
    given = {
        "text_dim": training.features.text.shape[1],
        "audio_groups": list(training.features.audio_groups),
        "classes": len(training.features.labels),
    }
    torch.manual_seed(config.training.seed)
    model = network(build(sizes, {**given, **config.model}, "model"))
    if sources.voice is not None:
        if not isinstance(model, SiLstm):
            raise ValueError(f"--voice: expected the architecture si_lstm, got {config.architecture}")
        model.load_voice(sources.voice)
    settings = config.training
    if sources.words is not None:
        keep_words(model, load(resolve(sources.words), text_encoder=False).network)
        settings = replace(settings, weight_decay=0.0)  # it would move what is kept
    log.info(
        "%d parameters, %d dialogues, %d utterances, dev %s",
        sum(p.numel() for p in model.parameters()), len(training.features), len(training.features.text),
        ", ".join(dev),
    )  # fmt: skip
    trained = train(
        Learner(model, encoder).to(sources.device),
        training,
        dev,
        settings,
        select=config.data.select,
        corpus_weights=config.data.corpus_weights,
        tuning=config.text_encoder,
        keep=keep,
    )
    if config.data.decide:
        trained = decided(trained, dev, config.data.decide)
    return trained, dev


@torch.no_grad()
def keep_words(model: StreamingModel, former: StreamingModel) -> None:
    """Take over a network's reading of words and let only the voice learn.

    Whatever a conversation without audio uses is the former network's and stays, so that words alone are read
    exactly as before; the former voice may have had other features.

    Raises:
        ValueError: the network has no voice of its own, or the former one is of another architecture or size.
    """
    if type(model) is not type(former) or not model.VOICE_ONLY:
        raise ValueError(
            f"--words: expected a checkpoint of {type(model).__name__} with parameters of a voice, "
            f"got {type(former).__name__}"
        )
    known = dict(former.named_parameters())
    for name, parameter in model.named_parameters():
        if name.startswith(model.VOICE_ONLY):
            continue
        if name not in known or known[name].shape != parameter.shape:
            raise ValueError(f"--words: expected {name} of shape {tuple(parameter.shape)} in the checkpoint")
        parameter.copy_(known[name])
        if name.startswith(model.VOICE_ROWS):
            second = torch.zeros_like(parameter)
            second[1] = 1.0
            parameter.register_hook(lambda gradient, second=second: gradient * second.to(gradient.device))
        else:
            parameter.requires_grad_(False)


def decided(trained: Trained, dev: Mapping[str, Corpus], by: str) -> Trained:
    """Add a bias for each label, selected on a ``set:condition``; the temperature stays.

    Raises:
        ValueError: `by` names no dev set and condition.
    """
    name, _, condition = by.partition(":")
    if name not in dev or condition not in CONDITIONS:
        raise ValueError(f"decide: expected SET:CONDITION with one of {', '.join(dev)}, got {by!r}")
    learner = Learner(trained.model, trained.encoder)
    logits, labels, _ = labelled_logits(learner, dev[name], condition)
    bias = label_bias.choose(logits.double().numpy(), labels.numpy(), dev[name].features.labels)
    log.info("bias by %s: %s", by, " ".join(f"{value:.2f}" for value in bias))
    label_bias.add(trained.model, bias)
    return replace(trained, scores=dev_scores(learner, dev, trained.temperature))


def predictions(trained: Trained, dev: Mapping[str, Corpus]) -> dict[str, Predictions]:
    """Predict the dev sets with a trained network, by ``set:condition`` as in its scores."""
    found = {}
    for key in trained.scores:
        name, condition = key.split(":")
        corpus = dev[name]
        learner = Learner(trained.model, trained.encoder)
        logits, labels, rows = labelled_logits(learner, corpus, condition)
        dialogue, turn = positions(corpus.features)
        found[key] = Predictions(
            (logits / trained.temperature).double().softmax(-1).numpy(),
            labels.numpy(),
            dialogue[rows],
            turn[rows],
            corpus.features.labels,
        )
    return found


def plain_card(name: str, trained: Trained, config: RunConfig) -> str:
    """Write a minimal model card, to be completed by hand."""
    rows = [
        f"| {key} | {s.weighted_f1:.2f} | {s.macro_f1:.2f} | {s.accuracy:.2f} | {s.ece:.3f} |"
        for key, s in trained.scores.items()
    ]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"Architecture `{config.architecture}`, trained on {', '.join(config.data.train)}; epoch "
            f"{trained.best_epoch} chosen on dev by {config.training.metric}.",
            "",
            "| dev set : what it reads | weighted F1 | macro F1 | accuracy | ECE |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def write(
    out: Path,
    config: RunConfig,
    trained: Trained,
    dev: Mapping[str, Corpus],
    sources: Sources,
    card: str | None,
    encoder_folder: str,
) -> None:
    """Write a run's checkpoint, with the text encoder that it trained or that computed its features."""
    spec = dict(next(iter(dev.values())).features.spec)
    encoder = trained.encoder
    if encoder is None and sources.text_encoder is not None:
        encoder = load_text_encoder(Path(sources.text_encoder))
    checkpoint = Checkpoint(
        name=out.name,
        architecture=config.architecture,
        network=copy.deepcopy(trained.model).cpu(),
        labels=next(iter(dev.values())).features.labels,
        temperature=trained.temperature,
        features=spec,
        text_encoder=encoder,
        about={
            "data": asdict(config.data),
            "training": asdict(config.training),
            "text_encoder": None if config.text_encoder is None else asdict(config.text_encoder),
            "best_epoch": trained.best_epoch,
            "dev": {key: asdict(scores) for key, scores in trained.scores.items()},
            "history": trained.history,
        },
    )
    save(out, checkpoint, card or plain_card(out.name, trained, config), encoder_folder)


def load_text_encoder(folder: Path) -> TextEncoder:
    """Load the text encoder of a checkpoint, with its window.

    Raises:
        ValueError: the folder is not a checkpoint with a text encoder.
    """
    config = read_checkpoint_config(folder)
    if not config.get("text_encoder"):
        raise ValueError(f"expected a checkpoint with a text encoder in {folder}, found none")
    window = build(TextEncoderConfig, config["text_encoder"], f"{folder}/config.json, text_encoder")
    return TextEncoder.from_pretrained(text_encoder_folder(folder, config), window)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint's folder")
    parser.add_argument("--features", type=Path, help="folder of <name>.safetensors")
    parser.add_argument(
        "--corpora", type=Path, help="folder with meld/train.jsonl.gz ..., for [text_encoder]"
    )
    parser.add_argument(
        "--text-encoder",
        help="with [text_encoder]: a transformers model; else the checkpoint whose encoder made the features",
    )
    parser.add_argument(
        "--share-encoder",
        default="text_encoder",
        metavar="FOLDER",
        help="of the text encoder, relative to OUT; an existing one is not written again",
    )
    parser.add_argument(
        "--voice",
        type=Path,
        help="acoustic encoder of erc_models.training.train_voice to start from (si_lstm)",
    )
    parser.add_argument(
        "--words",
        metavar="CHECKPOINT",
        help="keep this checkpoint's reading of words as it is, and learn the voice alone",
    )
    parser.add_argument("--card", type=Path, help="model card to use instead of the minimal one")
    parser.add_argument("--seed", type=int, help="instead of the configuration's")
    parser.add_argument("--seeds", help="seeds, comma-separated: a checkpoint each, in OUT/seed_N")
    parser.add_argument("--results", type=Path, help="folder for the seeds' predictions for the dev sets")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = read_config(args.config)
    sources = Sources(args.features, args.corpora, args.text_encoder, args.device, args.voice, args.words)
    if args.seeds:
        seeds = {int(seed): args.out / f"seed_{int(seed)}" for seed in args.seeds.split(",")}
    else:
        seeds = {config.training.seed if args.seed is None else args.seed: args.out}
    predicted: dict[str, dict[int, Predictions]] = {}
    for seed, out in seeds.items():
        out.mkdir(parents=True, exist_ok=True)
        seeded = replace(config, training=replace(config.training, seed=seed))
        trained, dev = run(seeded, sources, keep=out / "run.pt")
        card = args.card.read_text(encoding="utf-8") if args.card else None
        write(out, seeded, trained, dev, sources, card, args.share_encoder)
        (out / "run.pt").unlink()
        for key, scores in trained.scores.items():
            log.info("seed %d %s wF1 %.2f macro %.2f accuracy %.2f ECE %.3f", seed, key, scores.weighted_f1,
                     scores.macro_f1, scores.accuracy, scores.ece)  # fmt: skip
        for key, found in predictions(trained, dev).items():
            predicted.setdefault(key, {})[seed] = found
    if args.results:
        encoder = trained.encoder or (
            load_text_encoder(Path(args.text_encoder)) if args.text_encoder else None
        )
        rows = results.results_of(
            args.config.stem,
            architecture=config.architecture,
            network=trained.model,
            sets=predicted,
            text_encoder=None if encoder is None else str(encoder.model.config.model_type),
            text_parameters=0 if encoder is None else sum(p.numel() for p in encoder.parameters()),
            config=args.config.name,
            command=command_of("erc_models.training.train", sys.argv[1:] if arguments is None else arguments),
        )
        results.store(rows, args.results)


if __name__ == "__main__":
    main()
