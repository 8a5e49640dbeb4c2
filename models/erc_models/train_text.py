"""Fine-tune a text encoder on a conversation corpus.

``python -m erc_models.train_text --encoder PATH --train FILE --dev FILE --out DIR`` trains a
transformers encoder with a linear head on windows of past turns, keeps the exponential moving average
of its weights, chooses the epoch on dev by weighted F1, and writes the encoder (not the head) with its
tokenizer and window configuration.
"""

import argparse
import copy
import json
import logging
import random
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.datasets import MELD_LABELS, Dialogue, label_counts, read_jsonl
from erc_models.evaluate import score
from erc_models.text_encoder import TextEncoder, TextEncoderConfig, TextWindow, windows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextTraining:
    """Settings of a fine-tuning run."""

    epochs: int = 5
    batch_size: int = 32
    encoder_lr: float = 8e-5
    head_lr: float = 1e-3
    warmup: float = 0.1
    dropout: float = 0.2
    label_smoothing: float = 0.05
    class_weight_power: float = 0.5
    ema: float = 0.995
    strip_punctuation: float = 0.15
    context_dropout: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Example:
    """A window and the index of its gold label."""

    window: TextWindow
    label: int


def examples(dialogues: list[Dialogue], labels: tuple[str, ...], past_turns: int) -> list[Example]:
    """Every labelled utterance with its past."""
    found = []
    for dialogue in dialogues:
        texts = [u.text for u in dialogue.utterances]
        for window, u in zip(
            windows(dialogue.speaker_ids(), texts, past_turns), dialogue.utterances, strict=True
        ):
            if u.emotion in labels:
                found.append(Example(window, labels.index(u.emotion)))
    return found


def transcribe_plainly(text: str) -> str:
    """The text as a recognizer without punctuation and casing would write it."""
    return re.sub(r"\s+", " ", re.sub(r"[^\w\s']", " ", text.lower())).strip() or text


def augment(window: TextWindow, settings: TextTraining, rng: random.Random) -> TextWindow:
    """Sometimes drop punctuation or older turns, so that the encoder survives real transcripts."""
    past, text = window.past, window.text
    if past and rng.random() < settings.context_dropout:
        past = past[rng.randint(1, len(past)) :]
    if rng.random() < settings.strip_punctuation:
        past = tuple((who, transcribe_plainly(said)) for who, said in past)
        text = transcribe_plainly(text)
    return TextWindow(past, window.speaker, text)


def batches(items: list[Example], size: int, rng: random.Random | None) -> list[list[Example]]:
    """Batches of similar length; shuffled where an `rng` is given."""

    def length(e: Example) -> float:
        return len(e.window.text) + sum(len(t) for _, t in e.window.past) + (rng.random() * 60 if rng else 0)

    ordered = sorted(items, key=length)
    parts = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    if rng:
        rng.shuffle(parts)
    return parts


class TextClassifier(nn.Module):
    """The encoder under a dropout and a linear head."""

    def __init__(self, encoder: TextEncoder, classes: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.dim, classes)

    def forward(self, tokens: dict[str, Tensor]) -> Tensor:
        """Logits (B, C) of tokenised windows."""
        return self.head(self.dropout(self.encoder(**tokens).float()))


@torch.no_grad()
def predict(model: TextClassifier, items: list[Example], device: str, size: int = 64) -> np.ndarray:
    """Probabilities (N, C) in the order of `items`."""
    model.eval()
    order = {id(e): i for i, e in enumerate(items)}
    found: list[tuple[int, np.ndarray]] = []
    for part in batches(items, size, None):
        tokens = {k: v.to(device) for k, v in model.encoder.tokenize([e.window for e in part]).items()}
        p = model(tokens).softmax(-1).cpu().numpy()
        found += [(order[id(e)], row) for e, row in zip(part, p, strict=True)]
    return np.stack([row for _, row in sorted(found, key=lambda pair: pair[0])])


def fine_tune(
    encoder: TextEncoder,
    train: list[Example],
    dev: list[Example],
    labels: tuple[str, ...],
    counts: dict[str, int],
    settings: TextTraining,
    device: str = "cpu",
) -> tuple[TextClassifier, list[dict[str, float]]]:
    """Train; returns the averaged model of the best dev epoch and the scores of every epoch."""
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    model = TextClassifier(encoder, len(labels), settings.dropout).to(device)
    for parameter in model.encoder.model.embeddings.parameters():
        parameter.requires_grad_(False)
    average = copy.deepcopy(model).eval()
    frequency = torch.tensor([counts.get(name, 1) for name in labels], dtype=torch.float)
    weight = (frequency.sum() / frequency) ** settings.class_weight_power
    weight = (weight / (weight * frequency).sum() * frequency.sum()).to(device)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.encoder.parameters() if p.requires_grad], "lr": settings.encoder_lr},
            {"params": model.head.parameters(), "lr": settings.head_lr},
        ],
        weight_decay=0.01,
    )
    total = settings.epochs * -(-len(train) // settings.batch_size)
    warm = max(1, int(settings.warmup * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warm, max(0.0, (total - s) / max(1, total - warm)))
    )
    gold = np.array([e.label for e in dev])
    history, best, best_state, step = [], -1.0, None, 0
    for epoch in range(settings.epochs):
        model.train()
        started, running = time.perf_counter(), 0.0
        parts = batches(train, settings.batch_size, rng)
        for done, part in enumerate(parts, 1):
            tokens = model.encoder.tokenize([augment(e.window, settings, rng) for e in part])
            target = torch.tensor([e.label for e in part], device=device)
            with torch.autocast(device, dtype=torch.bfloat16):
                logits = model({k: v.to(device) for k, v in tokens.items()})
            loss = F.cross_entropy(
                logits.float(), target, weight=weight, label_smoothing=settings.label_smoothing
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            decay = min(settings.ema, step / (step + 10))
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                    slow.lerp_(fast, 1 - decay)
            running += loss.item()
            if done % 50 == 0:
                log.info(
                    "epoch %d %d/%d loss %.3f %.0f s",
                    epoch,
                    done,
                    len(parts),
                    running / done,
                    time.perf_counter() - started,
                )
        scores = score(predict(average, dev, device), gold, labels)
        history.append({"epoch": epoch, "weighted_f1": scores.weighted_f1, "macro_f1": scores.macro_f1})
        log.info(
            "epoch %d dev wF1 %.2f macro %.2f (%.0f s)",
            epoch,
            scores.weighted_f1,
            scores.macro_f1,
            time.perf_counter() - started,
        )
        if scores.weighted_f1 > best:
            best, best_state = scores.weighted_f1, copy.deepcopy(average.state_dict())
    assert best_state is not None
    average.load_state_dict(best_state)
    return average, history


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", required=True, help="transformers model, hub name or path")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--past-turns", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=TextTraining.epochs)
    parser.add_argument("--lr", type=float, default=TextTraining.encoder_lr)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = TextEncoderConfig(past_turns=args.past_turns)
    settings = TextTraining(epochs=args.epochs, encoder_lr=args.lr, seed=args.seed)
    train_set, dev_set = read_jsonl(args.train), read_jsonl(args.dev)
    model, history = fine_tune(
        TextEncoder.from_pretrained(args.encoder, config),
        examples(train_set, MELD_LABELS, config.past_turns),
        examples(dev_set, MELD_LABELS, config.past_turns),
        MELD_LABELS,
        label_counts(train_set),
        settings,
        args.device,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    model.encoder.model.save_pretrained(args.out)
    model.encoder.tokenizer.save_pretrained(args.out)
    torch.save(model.head.state_dict(), args.out / "head.pt")
    record = {"window": asdict(config), "training": asdict(settings), "history": history}
    (args.out / "training.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
