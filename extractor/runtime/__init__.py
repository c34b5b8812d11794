"""The page that a runtime fits on: a graph's file, a precision and a plan -> a session that runs named arrays.

Each module beside this one is a runtime: it says which precisions each of its providers has on this machine, and opens
sessions. A precision is always asked for by name, never left to the runtime, and what was asked for is what runs, or an
error: nothing is put in its place.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from extractor.errors import ProviderUnavailable, RuntimeMissing
from extractor.plan import Plan

RUNTIMES = ("onnxruntime", "openvino")  # the first that has a precision is the default for it


class Session(Protocol):
    """An opened graph; `run` may be called from many threads at once."""

    @property
    def inputs(self) -> frozenset[str]:
        """The names of the graph's inputs."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Run one batch: named arrays, each (n, …) -> the graph's one output (n, dim), which the caller owns."""


class Runtime(Protocol):
    """What each module of this package has."""

    PRECISIONS: tuple[str, ...]  # that it has on some machine

    @staticmethod
    def version() -> str:
        """Return the package's version; raises RuntimeMissing where it is not installed."""

    @staticmethod
    def providers() -> dict[str, tuple[str, ...]]:
        """Return the precisions of each provider that works on this machine, the preferred provider first."""

    @staticmethod
    def open_session(path: Path, precision: str, plan: Plan) -> Session:
        """Open a graph; see `open_session` below."""


def open_session(path: Path, precision: str, plan: Plan) -> Session:
    """Open a graph in a runtime.

    Parameters
    ----------
    path : Path
        An ONNX file.
    precision : str
        What the network is computed in: one of `extractor.spec.PRECISIONS`.
    plan : Plan
        Its runtime, provider, workers and threads.

    Raises
    ------
    RuntimeMissing
        The runtime's package is not installed.
    ProviderUnavailable
        The runtime, provider or precision is not to be had here; another is never put in its place.
    BackboneInvalid
        The file is no graph that the runtime reads.
    """
    check(precision, plan)
    return _module(plan.runtime).open_session(path, precision, plan)


def check(precision: str, plan: Plan) -> None:
    """Raise what `open_session` would for a runtime, a provider or a precision that is not to be had here."""
    found = _module(plan.runtime).providers()
    if plan.provider not in found:
        raise ProviderUnavailable(
            f"runtime {plan.runtime} has no provider {plan.provider!r} here, only {', '.join(found)}; ask for "
            f"--provider {next(iter(found))}{_CUDA_HINT if plan.provider == 'cuda' else ''}"
        )
    if precision not in found[plan.provider]:
        raise ProviderUnavailable(
            f"runtime {plan.runtime} has no {precision} on provider {plan.provider!r} here, only "
            f"{', '.join(found[plan.provider])}; {_what_has(precision)}"
        )


def default(precision: str) -> tuple[str, str]:
    """Return the runtime and the provider for a precision where nobody chose: the first that has it.

    Raises
    ------
    RuntimeMissing
        What could have it is not installed.
    ProviderUnavailable
        It is installed, and has it not on this machine.
    """
    missing: list[RuntimeMissing] = []
    for runtime in RUNTIMES:
        try:
            found = _module(runtime).providers() if precision in _module(runtime).PRECISIONS else {}
        except RuntimeMissing as error:
            missing.append(error)
            continue
        for provider, precisions in found.items():
            if precision in precisions:
                return runtime, provider
    raise (
        missing[0]
        if missing
        else ProviderUnavailable(f"no runtime computes in {precision} on this machine; serve the backbone in fp32")
    )


def default_provider(name: str) -> str:
    """Return the provider that a runtime prefers on this machine; raises as `open_session` does."""
    return next(iter(_module(name).providers()))


def available() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return, for each runtime that is installed, the precisions of each of its providers."""
    return {name: _module(name).providers() for name in versions()}


def versions() -> dict[str, str]:
    """Return the version of each runtime that is installed."""
    found = {}
    for name in RUNTIMES:
        try:
            found[name] = _module(name).version()
        except RuntimeMissing:
            continue
    return found


_CUDA_HINT = ", or pip uninstall onnxruntime and pip install 'headwater[gpu]'"


def _what_has(precision: str) -> str:
    try:
        runtime, provider = default(precision)
    except (ProviderUnavailable, RuntimeMissing) as error:
        return str(error)
    return f"ask for --runtime {runtime} --provider {provider}"


def _module(name: str) -> Runtime:
    if name not in RUNTIMES:
        raise ProviderUnavailable(f"runtime is {name!r}, not one of {', '.join(RUNTIMES)}")
    module: Any = import_module(f"extractor.runtime.{name}")
    return module  # type: ignore[no-any-return]
