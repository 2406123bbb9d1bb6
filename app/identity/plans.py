"""Plans: what a tenant may have, from `plans.yaml`."""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import yaml
from sqlalchemy import select

from app.settings import Settings, SettingsError
from app.store.engine import Tx
from app.store.tables import Tenant

#: By the plan's name, most delegations that its tenant may have offered and that have not ended.
Plans = Mapping[str, int]

LIMIT = "maxActiveOutgoing"
_LARGEST = 2**31 - 1
#: A token that is no character of the file, as the YAML reader names it: '<stream end>'.
_TOKEN = re.compile("'?<([a-z ]+)>'?")
_EXAMPLE = f"as in 'standard: {{{LIMIT}: 1000}}'"


def load_plans(settings: Settings) -> Plans:
    """The plans that the settings name, or those that we ship. Raises SettingsError with one line."""
    if settings.plans is None:
        return read_plans(files("app.identity").joinpath("plans.yaml").read_text())
    return _read_file(settings.plans)


def _read_file(path: Path) -> Plans:
    try:
        return read_plans(path.read_text())
    except UnicodeDecodeError as error:
        reason = f"is no text in UTF-8: byte {error.start + 1} begins nothing that is"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = str(error)
    raise SettingsError(f"CROSSGRANT_PLANS: {path}: {reason}")


def read_plans(text: str) -> Plans:
    """The plans of a file's text. Raises ValueError with one line that says what would be right."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"is no YAML{_where(text, error)}: write each plan {_EXAMPLE}") from None
    if not isinstance(found, dict) or not found:
        raise ValueError(f"holds no plans: write each {_EXAMPLE}")
    return {_name(name): _limit(name, plan) for name, plan in found.items()}


def _where(text: str, error: yaml.YAMLError) -> str:
    """The line and column that the reader names, and what it says of them."""
    match error:
        case yaml.MarkedYAMLError(problem_mark=yaml.Mark(line=line, column=column), problem=problem):
            said = _TOKEN.sub(r"\1", problem or "")
            return f' at line {line + 1}, column {column + 1}, "{said}"'
        case yaml.reader.ReaderError(position=position):
            line = text[:position].count("\n") + 1
            return f" at line {line}, which holds a control character"
    return ""


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise ValueError(f"the plan {name!r} needs a name that is a text: put it in quotes")  # one kind
    return name


def _limit(name: object, plan: object) -> int:
    limit = plan.get(LIMIT) if isinstance(plan, dict) and plan.keys() == {LIMIT} else None
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit <= _LARGEST:
        raise ValueError(f"the plan {name} must have {LIMIT} and nothing else: a number from 0 to {_LARGEST}")
    return limit


def check_plans(tx: Tx, plans: Plans, path: Path | None) -> None:
    """Raises SettingsError where a tenant's plan is missing: nobody knows then what it may have."""
    missing = tx.scalars(select(Tenant).where(Tenant.plan.not_in(plans)).limit(1)).one_or_none()
    if missing is None:
        return
    lacks = f"{missing.slug} has the plan {missing.plan}, which is missing"
    if path is None:
        shipped = ", ".join(plans)
        raise SettingsError(
            f"CROSSGRANT_PLANS is not set, and {lacks} among ours ({shipped}): name your file"
        )
    raise SettingsError(f"CROSSGRANT_PLANS: {path}: {lacks}: every plan that a tenant has must be in it")
