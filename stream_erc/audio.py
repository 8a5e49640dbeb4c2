"""The one sample rate, conversions to it, and the streaming resampler."""

SAMPLE_RATE = 16_000
"""Every stage works on mono float32 at this rate, in Hz."""
