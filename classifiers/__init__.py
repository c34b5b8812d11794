"""Embeddings and labels -> predictions: heads, few-shot classifiers, and how well they do.

Everything here takes `X` (n, dim) and `y` (n,) and never learns where they came from.
"""
