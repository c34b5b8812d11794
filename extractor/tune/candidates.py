"""A modality and what is installed here -> the plans that are worth measuring."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from extractor.plan import Plan, changed, cores, default_plan

WINDOW = 4  # batches that are prepared ahead; among their items texts are sorted by length
# Of workers with one thread each, of one worker with all threads, and of a GPU.
CPU_BATCHES = {"image": (1, 8), "text": (16, 32), "array": (1, 16), "audio": (1, 8)}
CPU_WIDE_BATCHES = {"image": (8, 32), "text": (32, 64), "array": (32, 128), "audio": (8, 32)}
GPU_BATCHES = {"image": (16, 32, 64), "text": (32, 64, 128), "array": (64, 256), "audio": (8, 16, 32)}
DECODED = {"image", "audio"}  # what takes a while to prepare; texts and arrays cost next to nothing
GPU_WORKERS = (1, 2)


@dataclass(frozen=True)
class Candidate:
    """A plan, and the precision that the network is computed in."""

    precision: str
    plan: Plan


def candidates(
    modality: str, precision: str, available: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> list[Candidate]:
    """Return the plans to measure for one precision, the plainest of each provider first.

    Parameters
    ----------
    modality, precision : str
    available : mapping of str to mapping of str to tuple of str
        The precisions of each provider of each runtime, as `extractor.runtime.available` has them.
    """
    return [
        Candidate(precision, plan)
        for runtime, providers in available.items()
        for provider, precisions in providers.items()
        if precision in precisions
        for plan in (_gpu if provider == "cuda" else _cpu)(modality, runtime, provider)
    ]


def _cpu(modality: str, runtime: str, provider: str) -> Iterator[Plan]:
    """Yield fused workers of one thread, of two where there are many cores, and one of all threads fed by a pool."""
    n = cores()
    for workers, threads in [(n, 1), (n // 2, 2)] if n >= 4 else [(n, 1)]:
        for size in CPU_BATCHES[modality]:
            yield _plan(modality, runtime, provider, workers=workers, threads=threads, max_batch_size=size)
    if n > 1:
        for size in CPU_WIDE_BATCHES[modality]:
            decode_threads = n if modality in DECODED else 0
            yield _plan(
                modality, runtime, provider, workers=1, threads=n, decode_threads=decode_threads, max_batch_size=size
            )


def _gpu(modality: str, runtime: str, provider: str) -> Iterator[Plan]:
    for workers in GPU_WORKERS:
        for size in GPU_BATCHES[modality]:
            yield _plan(modality, runtime, provider, workers=workers, max_batch_size=size)


def _plan(modality: str, runtime: str, provider: str, **changes: int) -> Plan:
    """Return the default plan with some fields set anew, and a window that fits the batch."""
    plan = changed(default_plan(modality, provider, runtime), **changes)
    fused = modality in DECODED and plan.decode_threads == 0
    return changed(plan, window=plan.max_batch_size * (1 if fused else WINDOW))
