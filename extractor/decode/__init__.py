"""Encoded bytes -> an image or a text, within bounds."""
