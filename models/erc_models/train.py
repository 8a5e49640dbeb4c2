"""Train a conversation network, alone or together with its text encoder.

``python -m erc_models.train --config FILE --out DIR --features DIR`` reads the feature sets that the
configuration names (``DIR/<name>.safetensors``, see `feature_store`), trains, chooses the epoch on dev,
fits the temperature there and writes a checkpoint. An epoch of MELD takes seconds on two CPU cores.

With a table ``[text_encoder]`` in the configuration the sets are corpora instead: ``meld_train`` is
``--corpora DIR``'s ``meld/train.jsonl.gz``, and the encoder of ``--text-encoder`` (a transformers model's
name or folder) learns with the network.

``--seeds 0,1,2`` trains once for each into ``OUT/seed_0`` ... and stores what all of them said of the dev
sets in ``--results DIR`` for the model zoo. A run that was cut off goes on where it was.
"""

import argparse
import copy
import logging
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from erc_models import label_bias, results
from erc_models.asr_noise import Vocabulary
from erc_models.checkpoint import ARCHITECTURES, Checkpoint, build, save, text_encoder_folder
from erc_models.checkpoint import read_config as read_checkpoint_config
from erc_models.datasets import CORPUS_LABELS, DAILYDIALOG_TO_MELD, MELD_LABELS, Dialogue, read, relabel
from erc_models.evaluate import CONDITIONS
from erc_models.evaluation_report import command_of
from erc_models.feature_store import NO_LABEL, FeatureSet, concatenate
from erc_models.fine_tuning import FineTuning, LiveText, prepare_encoder
from erc_models.metrics import Predictions
from erc_models.overlap import held_out, without_overlap, without_repeats
from erc_models.si_lstm import SiLstm
from erc_models.text_encoder import TextEncoder, TextEncoderConfig
from erc_models.trainer import Corpus, Learner, Trained, Training, evaluate, predict, train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """What to train and to score on.

    Attributes:
        train: names of the sets to train on, together.
        dev: names of the sets to score on.
        select: what to choose the epoch by, the mean over these ``set:condition`` (see `trainer.CONDITIONS`).
        corpus_weights: weight of a corpus in the loss, 1 where not named.
        unseen: sets whose sentences no training dialogue may share (the corpora of one show overlap).
        decide: a ``set:condition`` of those to score on, of no training dialogue, by which a bias is chosen
            for each label after the training (see `label_bias`); "" leaves the network's own.
    """

    train: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    corpus_weights: dict[str, float] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    decide: str = ""


@dataclass(frozen=True)
class RunConfig:
    """A configuration file: ``architecture``, ``[model]``, ``[data]``, ``[training]``, ``[text_encoder]``."""

    architecture: str
    model: Mapping[str, object]
    data: Data
    training: Training
    text_encoder: FineTuning | None = None


def read_config(path: Path) -> RunConfig:
    """Read a TOML configuration.

    Raises:
        ValueError: a key or an architecture is unknown.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    known = ("architecture", "model", "data", "training", "text_encoder")
    unknown = table.keys() - set(known)
    if unknown:
        raise ValueError(f"{path}: expected {', '.join(known)}, got {', '.join(sorted(unknown))}")
    architecture = table.get("architecture", "si_lstm")
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"{path}: expected an architecture of {', '.join(ARCHITECTURES)}, got {architecture!r}"
        )
    model = table.get("model", {})
    build(ARCHITECTURES[architecture][1], model, f"{path}, model")
    tuning = table.get("text_encoder")
    return RunConfig(
        architecture,
        model,
        build(Data, table.get("data", {}), f"{path}, data"),
        build(Training, table.get("training", {}), f"{path}, training"),
        None if tuning is None else build(FineTuning, tuning, f"{path}, text_encoder"),
    )


def corpus_dialogues(name: str, folder: Path) -> list[Dialogue]:
    """The dialogues of ``<corpus>_<split>``, DailyDialog's with MELD's names of the same emotions.

    ``_fit`` and ``_held`` behind a split are its two parts, see `held_out`; ``_dev_new`` is dev without the
    dialogues that train repeats.

    Raises:
        ValueError: there is no such corpus.
    """
    whole, _, part = name.rpartition("_")
    if part in ("fit", "held"):
        return held_out(corpus_dialogues(whole, folder))[part == "held"]
    if part == "new":
        training = corpus_dialogues(f"{whole.rpartition('_')[0]}_train", folder)
        return without_repeats(corpus_dialogues(whole, folder), training)
    path = folder / whole / f"{part}.jsonl.gz"
    if not whole or not path.is_file():
        raise ValueError(f"{name}: expected a corpus at {path}, found no such file")
    dialogues = read(path)
    return relabel(dialogues, DAILYDIALOG_TO_MELD) if whole == "dailydialog" else dialogues


def word_set(dialogues: Sequence[Dialogue], labels: Sequence[str], width: int) -> FeatureSet:
    """A feature set of dialogues that are only words, to be encoded as they are read.

    Args:
        dialogues: of one corpus.
        labels: the emotions; an utterance with another one counts as unlabelled.
        width: of the text features that are to come.
    """
    flat = [u for d in dialogues for u in d.utterances]
    index = {label: i for i, label in enumerate(labels)}
    return FeatureSet(
        text=torch.zeros(len(flat), width, dtype=torch.half),
        audio=torch.full((len(flat), 1), torch.nan),
        text_mask=torch.tensor([bool(u.text) for u in flat]),
        audio_mask=torch.zeros(len(flat), 1, dtype=torch.bool),
        speaker=torch.tensor([i for d in dialogues for i in d.speaker_ids()]),
        label=torch.tensor([index.get(u.emotion or "", NO_LABEL) for u in flat]),
        offsets=torch.tensor([0, *np.cumsum([len(d.utterances) for d in dialogues])]),
        corpus=torch.zeros(len(dialogues), dtype=torch.long),
        labels=tuple(labels),
        corpora=(dialogues[0].corpus,),
        names=tuple(d.name for d in dialogues),
        audio_groups=(1,),
    )


def word_corpora(
    data: Data, folder: Path, tuning: FineTuning, width: int
) -> tuple[Corpus, dict[str, Corpus]]:
    """Training and dev sets of words alone, for an encoder that learns.

    Raises:
        ValueError: a corpus is missing, or the training corpora have different labels.
    """
    unseen = [d for name in data.unseen for d in corpus_dialogues(name, folder)]
    parts = [corpus_dialogues(name, folder) for name in data.train]
    if unseen:
        parts = [without_overlap(part, unseen) for part in parts]
    labels = {corpus_labels(part) for part in parts}
    if len(labels) != 1:
        raise ValueError(f"train: expected corpora of the same labels, got {sorted(labels)}")
    names = labels.pop()
    dialogues = [d for part in parts for d in part]
    vocabulary = Vocabulary.of(u.text for d in dialogues for u in d.utterances)
    features = concatenate([word_set(part, names, width) for part in parts])
    dev = {}
    for name in data.dev:
        heard = corpus_dialogues(name, folder)
        dev[name] = Corpus(word_set(heard, names, width), LiveText(heard, tuning))
    text = LiveText(dialogues, tuning, vocabulary)
    if tuning.single_turns:
        features, text = features.by_turn(), text.by_turn()
    return Corpus(features, text), dev


def corpus_labels(dialogues: Sequence[Dialogue]) -> tuple[str, ...]:
    """The labels of a corpus's dialogues as `corpus_dialogues` gives them."""
    corpus = dialogues[0].corpus
    return MELD_LABELS if corpus == "dailydialog" else CORPUS_LABELS[corpus]


def frozen_corpora(data: Data, folder: Path) -> tuple[Corpus, dict[str, Corpus]]:
    """Training and dev sets of frozen features.

    Raises:
        ValueError: a set is missing, or its features are not those of the others.
    """
    training = concatenate([FeatureSet.load(folder / f"{name}.safetensors") for name in data.train])
    dev = {name: FeatureSet.load(folder / f"{name}.safetensors") for name in data.dev}
    for name, other in dev.items():
        if (other.labels, other.audio_groups) != (training.labels, training.audio_groups):
            raise ValueError(f"{name}: expected the labels and features of the training set, got others")
    return Corpus(training), {name: Corpus(other) for name, other in dev.items()}


@dataclass(frozen=True)
class Sources:
    """Where a run reads from, and the device it runs on."""

    features: Path | None = None
    corpora: Path | None = None
    text_encoder: str | None = None
    device: str = "cpu"
    voice: Path | None = None


def run(config: RunConfig, sources: Sources, keep: Path | None = None) -> tuple[Trained, dict[str, Corpus]]:
    """A whole run; also returns the dev sets.

    Raises:
        ValueError: a set or a source that the configuration needs is missing.
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
    log.info(
        "%d parameters, %d dialogues, %d utterances, dev %s",
        sum(p.numel() for p in model.parameters()), len(training.features), len(training.features.text),
        ", ".join(dev),
    )  # fmt: skip
    trained = train(
        Learner(model, encoder).to(sources.device),
        training,
        dev,
        config.training,
        select=config.data.select,
        corpus_weights=config.data.corpus_weights,
        tuning=config.text_encoder,
        keep=keep,
    )
    if config.data.decide:
        trained = decided(trained, dev, config.data.decide)
    return trained, dev


def decided(trained: Trained, dev: Mapping[str, Corpus], by: str) -> Trained:
    """The same network with a bias for each label, chosen by a ``set:condition``; its temperature stays.

    Raises:
        ValueError: `by` names what is not there.
    """
    name, _, condition = by.partition(":")
    if name not in dev or condition not in CONDITIONS:
        raise ValueError(f"decide: expected SET:CONDITION with one of {', '.join(dev)}, got {by!r}")
    learner = Learner(trained.model, trained.encoder)
    logits, labels, _ = predict(learner, dev[name], condition)
    bias = label_bias.choose(logits.double().numpy(), labels.numpy(), dev[name].features.labels)
    log.info("bias by %s: %s", by, " ".join(f"{value:.2f}" for value in bias))
    label_bias.add(trained.model, bias)
    return replace(trained, scores=evaluate(learner, dev, trained.temperature))


def predictions(trained: Trained, dev: Mapping[str, Corpus]) -> dict[str, Predictions]:
    """What a trained network says of the dev sets, by ``set:condition`` as in its scores."""
    found = {}
    for key in trained.scores:
        name, condition = key.split(":")
        corpus = dev[name]
        learner = Learner(trained.model, trained.encoder)
        logits, labels, rows = predict(learner, corpus, condition)
        offsets = corpus.features.offsets
        dialogue = torch.bucketize(rows, offsets[1:], right=True)
        found[key] = Predictions(
            (logits / trained.temperature).double().softmax(-1).numpy(),
            labels.numpy(),
            dialogue.numpy(),
            (rows - offsets[dialogue]).numpy(),
            corpus.features.labels,
        )
    return found


def plain_card(name: str, trained: Trained, config: RunConfig) -> str:
    """A model card of bare facts, to be completed by hand."""
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
    """Write a run's checkpoint, with the encoder that it trained or that its features came from."""
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
    """The text encoder of a checkpoint, with its window.

    Raises:
        ValueError: the folder is no checkpoint with a text encoder.
    """
    config = read_checkpoint_config(folder)
    if not config.get("text_encoder"):
        raise ValueError(f"expected a checkpoint with a text encoder in {folder}, found none")
    window = build(TextEncoderConfig, config["text_encoder"], f"{folder}/config.json, text_encoder")
    return TextEncoder.from_pretrained(text_encoder_folder(folder, config), window)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module's docstring."""
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
        help="of the text encoder, relative to OUT: one that is there is not written again",
    )
    parser.add_argument(
        "--voice", type=Path, help="acoustic encoder of erc_models.train_voice to start from (si_lstm)"
    )
    parser.add_argument("--card", type=Path, help="model card to put in the place of the plain one")
    parser.add_argument("--seed", type=int, help="instead of the configuration's")
    parser.add_argument("--seeds", help="several, comma-separated: a checkpoint each, in OUT/seed_N")
    parser.add_argument("--results", type=Path, help="folder for what the seeds said of the dev sets")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = read_config(args.config)
    sources = Sources(args.features, args.corpora, args.text_encoder, args.device, args.voice)
    if args.seeds:
        seeds = {int(seed): args.out / f"seed_{int(seed)}" for seed in args.seeds.split(",")}
    else:
        seeds = {config.training.seed if args.seed is None else args.seed: args.out}
    said: dict[str, dict[int, Predictions]] = {}
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
            said.setdefault(key, {})[seed] = found
    if args.results:
        encoder = trained.encoder or (
            load_text_encoder(Path(args.text_encoder)) if args.text_encoder else None
        )
        rows = results.results_of(
            args.config.stem,
            architecture=config.architecture,
            network=trained.model,
            sets=said,
            text_encoder=None if encoder is None else str(encoder.model.config.model_type),
            text_parameters=0 if encoder is None else sum(p.numel() for p in encoder.parameters()),
            config=args.config.name,
            command=command_of("erc_models.train", sys.argv[1:] if arguments is None else arguments),
        )
        results.store(rows, args.results)


if __name__ == "__main__":
    main()
