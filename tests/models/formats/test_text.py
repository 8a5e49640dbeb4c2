"""Text is read at run time as it was in training."""

import pytest
from erc_models.formats.text import repair_text
from erc_models.formats.text_windows import TextEncoderConfig, TextWindow
from erc_models.networks.text_encoder import TextEncoder


@pytest.mark.parametrize(
    ("said", "repaired"),
    [
        ("I\u2019m \x96 well\xa0 ok \x85", "I'm - well ok ..."),
        ("\u2018Kay\u2014\u201cno\u201d", '\'Kay - "no"'),
        ("  a\n b\t", "a b"),
        ("It\x92s so\u2026", "It's so..."),
    ],
)
def test_repaired_text(said: str, repaired: str) -> None:
    assert repair_text(said) == repaired
    assert repair_text(repaired) == repaired


class Letters:
    """A tokenizer whose tokens are characters."""

    cls_token_id, sep_token_id, pad_token_id = 1, 2, 0

    def __call__(self, texts: list[str], *, add_special_tokens: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


def test_the_encoder_reads_repaired_text() -> None:
    """In a turn and in the turns before it, from whatever source they come."""
    encoder = TextEncoder.__new__(TextEncoder)
    encoder.__dict__.update(tokenizer=Letters(), config=TextEncoderConfig())
    said = TextWindow(((0, "I\u2019m sad \u2026"),), 1, "Don\x92t \u2014 \u201cno\u201d")
    meant = TextWindow(((0, "I'm sad ..."),), 1, 'Don\'t - "no"')
    assert encoder.tokenize([said])["input_ids"].tolist() == encoder.tokenize([meant])["input_ids"].tolist()
