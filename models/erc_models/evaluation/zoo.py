"""The model zoo: the tables of ``models/README.md``, written from stored results alone.

``scripts/zoo`` writes the tables between their marker comments. ``--check`` writes nothing and fails if they
differ from what the results give. ``--time`` first measures a step of every stored network and stores it with
the results.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from erc_models.evaluation import bootstrap, results
from erc_models.evaluation.network_facts import step_times
from erc_models.evaluation.results import FOLDER

README = FOLDER.parent / "README.md"


@dataclass(frozen=True)
class Paper:
    """A paper's figures in percent, on the corpus's test split.

    Attributes:
        reads: text (T), audio (A), vision (V).
        causal: whether it uses no turn after the labelled one.
        figures: by their names in `metrics.FIGURES`.
        source: where the figures are printed.
        remark: replaces causal or not causal, for a measure that is not comparable beyond the split.
    """

    reads: str
    causal: bool
    figures: Mapping[str, float]
    source: str
    remark: str = ""


MTL = "multi-task speaker identification, from its abstract"
PAPERS: Mapping[tuple[str, str], Paper] = {
    ("si_lstm", "meld"): Paper(
        "TA", False, {"weighted_f1": 65.70, "accuracy": 66.59}, "Liang et al., 2023, table 3"
    ),
    ("si_lstm", "iemocap"): Paper(
        "TA", False, {"weighted_f1": 70.47, "accuracy": 70.43}, "Liang et al., 2023, table 3"
    ),
    ("multiemo", "meld"): Paper("TA", False, {"weighted_f1": 64.21}, "Shi and Huang, 2023"),
    ("multiemo", "iemocap"): Paper("TA", False, {"weighted_f1": 69.18}, "Shi and Huang, 2023"),
    ("mmmie", "meld"): Paper("TAV", False, {"weighted_f1": 64.12}, "Zheng et al.", "mostly causal"),
    ("mmmie", "iemocap"): Paper("TAV", False, {"weighted_f1": 67.53}, "Zheng et al.", "mostly causal"),
    ("speaker_multitask", "meld"): Paper("T", False, {"weighted_f1": 61.9}, MTL),
    ("speaker_multitask", "emorynlp"): Paper("T", False, {"weighted_f1": 35.9}, MTL),
    ("sentemocontext", "dailydialog"): Paper(
        "T",
        False,
        {"micro_f1_without_neutral": 57.75, "macro_f1_without_neutral": 57.71, "mcc": 0.49},
        "SentEmoContext, table 2",
        "not causal, and no classification: a pair is right where its loss is small",
    ),
}
"""(architecture, corpus) -> the paper's figures."""

PAPER_ABLATION: Mapping[str, Mapping[str, float]] = {
    "meld": {"_lstm": 62.98, "_without_speaker": 64.67, "_without_joint": 64.71, "": 65.70},
    "iemocap": {"_lstm": 66.63, "_without_speaker": 68.89, "_without_joint": 68.01, "": 70.47},
}
"""Weighted F1 in SI-LSTM's table 3, by the suffix of our row."""

ABLATION: Mapping[str, tuple[str, Mapping[str, bool]]] = {
    "_lstm": ("LSTM", {"speaker_state": False, "joint_attention": False}),
    "_without_speaker": ("w/o SI", {"speaker_state": False}),
    "_without_joint": ("w/o JMA", {"joint_attention": False}),
    "": ("SI-LSTM", {}),
    "_literal": ("eq. 8 as printed", {"literal_candidate": True}),
    "_offline": ("offline (bidirectional, whole dialogue)", {"offline": True}),
}
"""Suffix of a row's name -> the ablation's name, and the flags that differ from the full network."""

FLAGS = {"speaker_state": True, "joint_attention": True, "literal_candidate": False, "offline": False}

CONVERSATIONS = ("meld", "emorynlp", "iemocap")
"""The corpora whose figure is weighted F1."""

COLUMNS: Mapping[str, str] = {
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "macro_recall": "macro recall",
    "micro_f1_without_neutral": "micro F1 without neutral",
    "macro_f1_without_neutral": "macro F1 without neutral",
    "mcc": "MCC",
    "ece": "ECE",
}
FACTS = ("model", "corpus", "reads", "causal", "parameters", "state, bytes", "step, ms", "seeds")


def tables(stored: Mapping[str, dict]) -> dict[str, str]:
    """Return every table in Markdown, by the name of its markers."""
    rows = {name: found for name, found in stored.items() if not _is_ablation(name, stored)}
    return {
        "conversations": _scores(
            rows, CONVERSATIONS, ("weighted_f1", "macro_f1", "accuracy", "ece"), "weighted_f1"
        ),
        "dailydialog": _scores(
            rows,
            ("dailydialog",),
            ("micro_f1_without_neutral", "macro_f1_without_neutral", "mcc", "ece"),
            "micro_f1_without_neutral",
            ("", "new"),
        ),
        "misheard": _scores(rows, ("meld",), ("weighted_f1", "macro_f1", "ece"), "weighted_f1", ("wer35",)),
        "acted": _scores(rows, ("acted", "clips"), ("macro_recall", "weighted_f1", "ece"), "macro_recall"),
        "ablation": _ablations(stored),
    }


def _is_ablation(name: str, stored: Mapping[str, dict]) -> bool:
    return any(
        suffix and name.endswith(suffix) and name.removesuffix(suffix) in stored for suffix in ABLATION
    )


def _scores(
    stored: Mapping[str, dict],
    corpora: Sequence[str],
    figures: Sequence[str],
    order: str,
    variants: Sequence[str] = ("",),
) -> str:
    """Return a table with a row for each set of these corpora and variants, best first."""
    found = [
        (row, part)
        for row in stored.values()
        for part in row["sets"].values()
        if part["corpus"] in corpora and part["variant"] in variants
    ]
    found.sort(key=lambda pair: (corpora.index(pair[1]["corpus"]), -pair[1]["scores"][order]["mean"]))
    lines = []
    for row, part in found:
        paper = PAPERS.get((row["architecture"], part["corpus"]))
        lines.append(
            [
                row["name"],
                f"{part['corpus']} {part['split']} {part['variant']}".strip(),
                " + ".join(part["modalities"]),
                _yes(row["causal"]),
                _parameters(row),
                f"{row['state_bytes']:,}" if row["state_bytes"] else "-",
                f"{row['step_ms']:.2f}" if row.get("step_ms") else "-",
                str(len(part["seeds"])),
                *(_cell(name, part["scores"][name]) for name in figures),
                _paper(paper, figures),
            ]
        )
    return _markdown([*FACTS, *(COLUMNS[name] for name in figures), "paper, test split"], lines)


def _cell(name: str, value: Mapping[str, float | None]) -> str:
    """Format the mean, its standard deviation over seeds and its interval over dialogues."""
    digits = 3 if name in ("mcc", "ece", "brier") else 1
    text = f"{value['mean']:.{digits}f}"
    if value["sd"] is not None:
        text += f" ± {value['sd']:.{digits}f}"
    if value["low"] is not None:
        text += f" [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
    return text


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _parameters(row: Mapping) -> str:
    own = f"{row['parameters'] / 1e6:.1f} M"
    return f"{own} + {row['text_parameters'] / 1e6:.1f} M" if row["text_parameters"] else own


def _paper(paper: Paper | None, figures: Sequence[str]) -> str:
    """Format the paper's figures, with its modalities and source."""
    if paper is None:
        return "-"
    values = ", ".join(
        f"{COLUMNS[name]} {paper.figures[name]:.2f}" for name in figures if name in paper.figures
    )
    causal = paper.remark or ("causal" if paper.causal else "not causal")
    return f"{values} ({paper.reads}, {causal}; {paper.source})"


def _ablations(stored: Mapping[str, dict]) -> str:
    """Return a table for each full SI-LSTM with ablations and each corpus."""
    made = []
    for name, full in stored.items():
        others = {s: stored[name + s] for s in ABLATION if s and name + s in stored}
        if full["architecture"] != "si_lstm" or not others:
            continue
        for key in _comparable(full):
            rows = {s: row for s, row in others.items() if key in row["sets"]}
            if rows:
                made.append(_ablation(key, {**rows, "": full}))
    return "\n\n".join(made) or "No results stored."


def _comparable(row: Mapping) -> Iterator[str]:
    """Yield one set of each corpus, with all its modalities."""
    for key, part in row["sets"].items():
        alike = {**part, "condition": "all"}
        richer = part["condition"] == "text" and any(
            (other["corpus"], other["split"], other["variant"]) == (alike["corpus"], alike["split"], "")
            and other["condition"] == "all"
            for other in row["sets"].values()
        )
        if (
            part["corpus"] in CONVERSATIONS
            and not part["variant"]
            and part["condition"] != "audio"
            and not richer
        ):
            yield key


def _ablation(key: str, rows: Mapping[str, dict]) -> str:
    """Return rows as in SI-LSTM's table 3, with differences from the full network on the same turns."""
    full = rows[""]["sets"][key]
    lines = []
    for suffix, (title, changes) in ABLATION.items():
        if suffix not in rows:
            continue
        row, part = rows[suffix], rows[suffix]["sets"][key]
        flags = {name: row["network"].get(name, value) for name, value in FLAGS.items()}
        if flags != FLAGS | dict(changes):
            raise ValueError(f"{row['name']}: expected a network with {FLAGS | dict(changes)}, got {flags}")
        if row["text_encoder"] != rows[""]["text_encoder"]:
            wanted = f"the text encoder of {rows['']['name']} ({rows['']['text_encoder']})"
            raise ValueError(f"{row['name']}: expected {wanted}, got {row['text_encoder']}")
        less = "-"
        if suffix:
            found = bootstrap.paired_differences(
                results.matrices(full), results.matrices(part), full["labels"]
            )
            d = found["weighted_f1"]
            less = f"{d.mean:+.2f} [{d.low:+.2f}, {d.high:+.2f}]"
        paper = PAPER_ABLATION.get(full["corpus"], {}).get(suffix)
        lines.append(
            [
                title,
                _yes(row["causal"]),
                str(len(part["seeds"])),
                _cell("weighted_f1", part["scores"]["weighted_f1"]),
                _cell("accuracy", part["scores"]["accuracy"]),
                less,
                "-" if paper is None else f"{paper:.2f}",
            ]
        )
    caption = f"{rows['']['name']} on {full['corpus']} {full['split']}, {' + '.join(full['modalities'])}:"
    columns = (
        "",
        "causal",
        "seeds",
        "weighted F1",
        "accuracy",
        "beside SI-LSTM",
        "paper, test, offline",
    )
    return f"{caption}\n\n{_markdown(columns, lines)}"


def _markdown(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return "No results stored."
    rule = "|" + "---|" * len(columns)
    return "\n".join([_line(columns), rule, *map(_line, lines)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def filled(readme: str, made: Mapping[str, str]) -> str:
    """Return a text with the tables between ``<!-- zoo:NAME -->`` and ``<!-- /zoo:NAME -->``.

    Raises:
        ValueError: a pair of markers is missing.
    """
    for name, table in made.items():
        begin, end = f"<!-- zoo:{name} -->", f"<!-- /zoo:{name} -->"
        between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not between.search(readme):
            raise ValueError(f"expected a line {begin} and after it a line {end}, found none")
        readme = between.sub(lambda _, text=f"{begin}\n{table}\n{end}": text, readme)
    return readme


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="scripts/zoo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a table is stale")
    parser.add_argument("--time", action="store_true", help="measure the step times first")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of stored results")
    parser.add_argument("--readme", type=Path, default=README)
    args = parser.parse_args(arguments)
    try:
        stored = results.load_all(args.results)
        if args.time:
            for name, ms in step_times(stored).items():
                stored[name]["step_ms"] = round(ms, 3)
                results.store(stored[name], args.results)
        before = args.readme.read_text(encoding="utf-8")
        after = filled(before, tables(stored))
    except (ValueError, OSError) as error:
        sys.exit(f"zoo: {str(error).splitlines()[0]}")
    if args.check:
        if after != before:
            sys.exit(f"zoo: expected the tables of {args.results} in {args.readme}, got others: "
                     "run scripts/zoo")  # fmt: skip
    else:
        args.readme.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
