"""`plan.json` beside a backbone: a machine -> the plan that `headwater tune` chose there.

The file holds the plan of each machine that shares the folder. It takes no part in the fingerprint, and the spec does
not list it: nothing in it changes an embedding.
"""

import dataclasses
import json
import logging
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extractor import runtime
from extractor.errors import BackboneError, PlanNotStored
from extractor.machine import machine
from extractor.plan import Plan, changed, default_plan
from extractor.spec import PLAN_FILE, Spec

FORMAT = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StoredPlan:
    """A plan, and what was measured with it.

    Parameters
    ----------
    plan : Plan
    measured : dict of str to float
        `items_per_s`, `p50_ms`, `p99_ms`, `cpu_ms`.
    versions : dict of str to str
        Of the runtimes that were compared.
    """

    plan: Plan
    measured: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def choose_plan(folder: Path, spec: Spec, **changes: Any) -> Plan:
    """Return how to run a backbone on this machine: as it was tuned here, else by default.

    Parameters
    ----------
    folder : Path
    spec : Spec
    **changes
        Fields to set anew; None leaves one as it is. Another runtime or provider than the tuned one sets aside what was
        tuned for that.

    Raises
    ------
    RuntimeMissing, ProviderUnavailable
        Nothing on this machine has the spec's precision.
    ValueError
        There is no such field, or its value is out of range.
    """
    tuned = stored_plan(folder)
    if tuned is not None and _agrees(tuned, changes) and _works(folder, spec, tuned):
        return changed(tuned, **changes)
    chosen, provider = _executor(spec.precision, changes.get("runtime"), changes.get("provider"))
    return changed(default_plan(spec.modality, provider, chosen), **changes)


def stored_plan(folder: Path) -> Plan | None:
    """Return the plan that is stored for this machine; None, with a warning in the log, where the file is no good."""
    try:
        stored = read_plans(folder).get(machine())
    except ValueError as error:
        _warn(folder, error)
        return None
    return stored.plan if stored else None


def read_plans(folder: Path) -> dict[str, StoredPlan]:
    """Read `plan.json`; empty where there is none.

    Raises
    ------
    ValueError
        The file is not what this version writes.
    """
    path = folder / PLAN_FILE
    try:
        facts = json.loads(path.read_bytes())
        if facts["format"] != FORMAT:
            raise ValueError(f"its format is {facts['format']!r}, this version reads {FORMAT}")
        return {name: _parse(value) for name, value in facts["machines"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it is malformed ({error})") from None


def store_plan(folder: Path, stored: StoredPlan) -> Path:
    """Keep a plan for this machine, beside those of others.

    Raises
    ------
    PlanNotStored
        The folder cannot be written.
    """
    try:
        plans = read_plans(folder)
    except ValueError as error:
        log.warning("%s is replaced: %s", folder / PLAN_FILE, error)
        plans = {}
    plans[machine()] = stored
    _write(folder / PLAN_FILE, {name: dataclasses.asdict(value) for name, value in plans.items()})
    return folder / PLAN_FILE


def _agrees(tuned: Plan, changes: dict[str, Any]) -> bool:
    return all(changes.get(name) in (None, getattr(tuned, name)) for name in ("runtime", "provider"))


def _works(folder: Path, spec: Spec, tuned: Plan) -> bool:
    """Tell whether the runtime of a stored plan is still to be had; else warn."""
    try:
        runtime.check(spec.precision, tuned)
    except BackboneError as error:
        _warn(folder, error)
        return False
    return True


def _warn(folder: Path, error: Exception) -> None:
    log.warning("%s is not used, the default plan is: %s; run headwater tune again", folder / PLAN_FILE, error)


def _executor(precision: str, chosen: str | None, provider: str | None) -> tuple[str, str]:
    """Return the runtime and the provider: those asked for, and for what was not, the first that has the precision."""
    if chosen is None and provider is None:
        return runtime.default(precision)
    chosen = chosen or runtime.default(precision)[0]
    return chosen, provider or runtime.default_provider(chosen)


def _parse(facts: dict[str, Any]) -> StoredPlan:
    return StoredPlan(
        plan=changed(Plan(), **facts["plan"]), measured=dict(facts["measured"]), versions=dict(facts["versions"])
    )


def _write(path: Path, machines: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    text = json.dumps({"format": FORMAT, "machines": machines}, indent=2, ensure_ascii=False) + "\n"
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PlanNotStored(
            f"{path} cannot be written: {error.strerror or error}; make its folder writable, or copy the backbone"
        ) from None
