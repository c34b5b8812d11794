"""How a task classifies, as plain facts: made by a person, checked once, kept as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from classifiers.errors import InvalidOption

METHODS = ("auto", "class-mean", "knn", "cached-keys", "ridge", "logistic", "kernel-logistic")  # of AdaptiveClassifier


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a task classifies.

    Parameters
    ----------
    method : {'auto', 'class-mean', 'knn', 'cached-keys', 'ridge', 'logistic', 'kernel-logistic'}
    false_alarm_rate : float
        Share of items of the known classes that may be called unknown, below 1. 0: nothing is ever unknown.
    zero_shot : bool
        Whether the names of classes are knowledge, so that those without examples can be recognised.
    texts : mapping of str to str
        Label to what stands for its name there.

    Raises
    ------
    InvalidOption
    """

    method: str = "auto"
    false_alarm_rate: float = 0.05
    zero_shot: bool = False
    texts: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidOption(f"method is {self.method!r}, not one of {', '.join(METHODS)}")
        if type(self.false_alarm_rate) not in (int, float) or not 0 <= self.false_alarm_rate < 1:
            raise InvalidOption(
                f"false_alarm_rate is {self.false_alarm_rate!r}; take a share below 1, or 0: nothing is unknown"
            )
        if type(self.zero_shot) is not bool:
            raise InvalidOption(f"zero_shot is {self.zero_shot!r}; take true or false")
        if not isinstance(self.texts, Mapping) or {type(one) for pair in self.texts.items() for one in pair} - {str}:
            raise InvalidOption("texts must have a text, a str, for each label that it names")
        object.__setattr__(self, "false_alarm_rate", float(self.false_alarm_rate))
        object.__setattr__(self, "texts", dict(self.texts))  # what the caller does with its own is nothing to us
