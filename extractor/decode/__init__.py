"""Encoded bytes -> an image, a text, an array or a waveform, within bounds."""
