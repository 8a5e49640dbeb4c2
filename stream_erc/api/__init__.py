"""The library: a recording, a transcript or the microphone recognized in one line of Python."""
