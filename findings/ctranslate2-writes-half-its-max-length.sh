#!/bin/sh
# Guess: `max_length` of Whisper.generate, "maximum generation length", is how many tokens are written at most; 40
#   gives up to 40.
# Truth: it is halved first, as the 448 places of a Whisper decoder are, of which 224 are for the text: 40 gives 20.
#   And the prompt counts against the whole: with 25 tokens of prompt 40 leaves 16, and 20 nothing at all, without an
#   error.
# Hurts: whoever bounds the text by the length of the audio, so that a loop ends early: the ends of long utterances
#   are cut off silently. faster-whisper hands the prompt's length and `max_new_tokens` on as `max_length`, so that
#   `max_new_tokens` is halved, too.
# Seen: ctranslate2 4.8.5, numpy 2.4.6, on 2026-11-28. The model is a Whisper of two layers with random weights that
#   never writes the end of a text.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ctranslate2==4.8.5 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/model" <<'PYTHON'
import os
import sys

import ctranslate2
import numpy as np

WIDTH, WORDS = 16, 50
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|startofprev|>", "<|nospeech|>"]
SPECIAL += ["<|notimestamps|>"]
VOCABULARY = [f"w{n}" for n in range(WORDS)] + SPECIAL + [f"<|{n / 50:.2f}|>" for n in range(1501)]
PROMPT = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
chance = np.random.default_rng(0)


def weights(*shape):
    return (0.3 * chance.standard_normal(shape)).astype(np.float32)


def fill(layer, rows, columns):
    layer.weight, layer.bias = weights(rows, columns), np.zeros(rows, np.float32)


def norm(layer):
    layer.gamma, layer.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)


def fill_block(block, cross):
    norm(block.self_attention.layer_norm)
    fill(block.self_attention.linear[0], 3 * WIDTH, WIDTH)
    fill(block.self_attention.linear[1], WIDTH, WIDTH)
    if cross:
        norm(block.attention.layer_norm)
        fill(block.attention.linear[0], WIDTH, WIDTH)
        fill(block.attention.linear[1], 2 * WIDTH, WIDTH)
        fill(block.attention.linear[2], WIDTH, WIDTH)
    norm(block.ffn.layer_norm)
    fill(block.ffn.linear_0, 4 * WIDTH, WIDTH)
    fill(block.ffn.linear_1, WIDTH, 4 * WIDTH)


def make_model(folder):
    spec = ctranslate2.specs.WhisperSpec(1, 2, 1, 2)
    encoder, decoder = spec.encoder, spec.decoder
    for convolution, channels in ((encoder.conv1, 80), (encoder.conv2, WIDTH)):
        convolution.weight, convolution.bias = weights(WIDTH, channels, 3), np.zeros(WIDTH, np.float32)
    encoder.position_encodings.encodings = weights(1500, WIDTH)
    decoder.position_encodings.encodings = weights(448, WIDTH)
    for part, cross in ((encoder, False), (decoder, True)):
        norm(part.layer_norm)
        for block in part.layer:
            fill_block(block, cross)
    decoder.embeddings.weight = weights(len(VOCABULARY), WIDTH)
    fill(decoder.projection, len(VOCABULARY), WIDTH)
    decoder.projection.bias[WORDS:] = -1e4  # words only, and no end
    spec.register_vocabulary(VOCABULARY)
    spec.config.suppress_ids = spec.config.suppress_ids_begin = []
    spec.config.lang_ids, spec.config.alignment_heads = [WORDS + 2], [(0, 0)]
    spec.validate()
    spec.optimize(quantization=None)
    os.mkdir(folder)
    spec.save(folder)


make_model(sys.argv[1])
whisper = ctranslate2.models.Whisper(sys.argv[1], device="cpu")
audio = whisper.encode(ctranslate2.StorageView.from_array(weights(1, 80, 3000)))


def written(max_length, prompt):
    return len(whisper.generate(audio, [prompt], max_length=max_length, beam_size=1)[0].sequences_ids[0])


long_prompt = ["<|startofprev|>"] + ["w1"] * 20 + PROMPT
seen = {}
for max_length in (20, 40, 100, 448):
    seen[max_length] = written(max_length, PROMPT), written(max_length, long_prompt)
    print(f"max_length {max_length}: {seen[max_length][0]} tokens; {seen[max_length][1]} after a prompt of {len(long_prompt)}")
as_described = all(plain == max_length // 2 for max_length, (plain, _) in seen.items())
sys.exit(not (as_described and seen[40][1] == 16 and seen[20][1] == 0))
PYTHON
