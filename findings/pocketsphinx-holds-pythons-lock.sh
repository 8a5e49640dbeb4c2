#!/bin/sh
# Guess: a binding of a C library lets other threads run while the library works, as numpy, CTranslate2 and ONNX
#   Runtime do.
# Truth: PocketSphinx's binding keeps Python's global lock for as long as a call takes. While it decodes some seconds
#   of sound in one call, no other thread of the program runs at all.
# Hurts: programs that record, serve or draw beside a recognizer in a thread: a microphone's buffer overflows, a
#   heartbeat is missed.
# Seen: pocketsphinx 5.1.1, numpy 2.4.6, CPython 3.11, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pocketsphinx==5.1.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import threading
import time

import numpy as np
import pocketsphinx

at = np.arange(16 * 16000) / 16000
voice = sum(np.sin(2 * np.pi * 120 * k * at + k) / k for k in range(1, 30)) * (np.sin(4 * np.pi * at) > 0)
samples = (8000 * voice / np.abs(voice).max()).astype(np.int16).tobytes()
longest, ended = 0.0, threading.Event()


def tick():
    """Wakes each millisecond, and notes the longest time between."""
    global longest
    last = time.perf_counter()
    while not ended.is_set():
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now


decoder = pocketsphinx.Decoder(loglevel="FATAL")
decoder.start_utt()
clock = threading.Thread(target=tick)
clock.start()
time.sleep(0.5)
longest, began = 0.0, time.perf_counter()
decoder.process_raw(samples, full_utt=True)
took = time.perf_counter() - began
time.sleep(0.1)
ended.set()
clock.join()
print(f"process_raw took {took:.2f} s; another thread was held up for {longest:.2f} s of it")
sys.exit(not longest > 0.5 * took)
PYTHON
