"""The whole life of delegations, at random, is what a small model of the promises says; and what is broken is found."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as some
from hypothesis.stateful import run_state_machine_as_test

from tests.flows.lifecycle_faults import FAULTS
from tests.flows.lifecycle_stage import Stage, stage
from tests.flows.lifecycle_steps import Lifecycle
from tests.world import settings_for

QUIET = settings(
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
    print_blob=True,
)


def play(on: Stage, chosen: settings) -> None:
    """Plays histories until a difference is found, or all were alike."""
    run_state_machine_as_test(lambda: Lifecycle(on), settings=chosen)  # type: ignore[arg-type]  # whatever makes one will do


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One stage for all that is broken: in the rules, the same for each store."""
    with stage(settings_for(tmp_path_factory.mktemp("data"), None)) as on:
        yield on


def test_every_history_of_a_delegation_is_what_the_model_says(
    tmp_path: Path, database_url: str | None, full: bool
) -> None:
    with stage(settings_for(tmp_path, database_url)) as on:
        play(on, settings(QUIET, max_examples=150 if full else 8, stateful_step_count=50 if full else 30))


class _AllRules:
    def is_enabled(self, _name: str) -> bool:
        return True


#: By default the first few: the others take longer to be found.
_FAULTS = [pytest.param(each, marks=[pytest.mark.full] if at > 5 else []) for at, each in enumerate(FAULTS)]


@pytest.mark.parametrize("fault", _FAULTS)
def test_the_machine_finds_what_is_broken(fault: Callable[[pytest.MonkeyPatch], None], quick: Stage) -> None:
    quick.forget()
    with pytest.MonkeyPatch.context() as patch:
        fault(patch)
        # In each history Hypothesis leaves out some rules at random. That finds more in the end, and these later.
        patch.setattr("hypothesis.stateful.FeatureStrategy", lambda **_: some.just(_AllRules()))
        with pytest.raises(AssertionError):
            play(quick, settings(QUIET, max_examples=400, stateful_step_count=30, derandomize=True))
    assert quick.found_after is not None, "it failed, but not because product and model differ"
