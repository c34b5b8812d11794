"""The errors of `classifiers`; each is also the ValueError that scikit-learn's callers expect.

ClassifierError
└── TooFewExamples    a class, or the whole set, has fewer examples than the method needs
"""


class ClassifierError(Exception):
    """Root of every error that `classifiers` raises on purpose."""


class TooFewExamples(ClassifierError, ValueError):
    """A class, or the whole set, has fewer examples than the method needs."""
