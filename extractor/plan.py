"""How a backbone is run on a machine: runtime, provider, threads, batches. Nothing here changes an embedding."""

import os
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a backbone is run; never part of the fingerprint.

    Parameters
    ----------
    runtime : str
        `onnxruntime` or `openvino`.
    provider : str
        `cpu` or `cuda`.
    workers : int
        Forwards that run at once.
    threads : int
        Threads inside one forward.
    decode_threads : int
        Threads that decode and preprocess beside the workers; 0 lets the workers do it themselves.
    max_batch_size : int
        Items in one forward.
    max_batch_tokens : int
        Tokens in one forward, padding counted in; for texts.
    max_batch_values : int
        Samples of sounds, or values of arrays, in one forward, padding counted in, where items vary in length.
    max_padding : float
        Share of a forward that may be padding, in [0, 1), where items vary in length.
    window : int
        Items that are prepared ahead, among which a batch is chosen by length.
    max_queue_delay_ms : float
        How long an item may wait for others to fill its batch.
    """

    runtime: str = "onnxruntime"
    provider: str = "cpu"
    workers: int = 1
    threads: int = 1
    decode_threads: int = 0
    max_batch_size: int = 1
    max_batch_tokens: int = 16_384
    max_batch_values: int = 1 << 20
    max_padding: float = 0.1
    window: int = 1
    max_queue_delay_ms: float = 0.0


def default_plan(modality: str, provider: str, runtime: str = "onnxruntime") -> Plan:
    """Return the plan for a backbone that was not tuned on this machine.

    On a CPU one worker a core, with decode and inference fused: there a batch makes an image slower, not faster (by
    29 % at 32) and a sound too (by 58 % at 16), and texts gain from batches of like length, chosen from several
    batches' worth of queue; arrays are run as texts are.
    """
    if provider == "cuda":
        workers, decode_threads = 2, max(1, cores() - 2)
        if modality in ("image", "audio"):
            return Plan(
                runtime=runtime,
                provider=provider,
                workers=workers,
                decode_threads=decode_threads,
                max_batch_size=32,
                window=128,
            )
        return Plan(runtime=runtime, provider=provider, workers=workers, max_batch_size=64, window=256, max_padding=0.3)
    if modality in ("image", "audio"):
        return Plan(runtime=runtime, provider=provider, workers=cores())
    return Plan(runtime=runtime, provider=provider, workers=cores(), max_batch_size=16, window=64)


def changed(plan: Plan, **changes: Any) -> Plan:
    """Return a plan with some of its fields set anew; None leaves one as it is.

    Raises
    ------
    ValueError
        There is no such field, or its value is out of range.
    """
    known = {field.name for field in fields(Plan)}
    for name, value in changes.items():
        if name not in known:
            raise ValueError(f"a plan has no {name!r}; it has {', '.join(sorted(known))}")
        if value is not None:
            _check(name, value)
    return replace(plan, **{name: value for name, value in changes.items() if value is not None})


def _check(name: str, value: Any) -> None:
    kind = type(getattr(Plan(), name))
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{name} is {value!r}; take a value of type {kind.__name__}")
    if name == "max_padding" and not 0 <= value < 1:
        raise ValueError(f"{name} is {value}; take at least 0 and less than 1")
    least = 0 if name in ("decode_threads", "max_queue_delay_ms") else 1
    if name != "max_padding" and isinstance(value, int | float) and value < least:
        raise ValueError(f"{name} is {value}; take at least {least}")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
