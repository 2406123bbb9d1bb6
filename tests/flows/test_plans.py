"""Plans: what a tenant may have comes from a file, and a start without a plan that a tenant has is no start."""

from pathlib import Path

import pytest

from app.identity.plans import check_plans, load_plans, read_plans
from app.settings import Settings, SettingsError
from tests.world import World


def test_without_a_setting_the_plans_are_those_that_we_ship() -> None:
    assert load_plans(Settings()) == {"standard": 1_000, "trial": 10, "enterprise": 100_000}


def test_a_file_takes_their_place(tmp_path: Path) -> None:
    file = tmp_path / "plans.yaml"
    file.write_text("gold:\n  maxActiveOutgoing: 7\nnone: {maxActiveOutgoing: 0}\n")
    assert load_plans(Settings(plans=file)) == {"gold": 7, "none": 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no plans"),
        ("[]", "holds no plans"),
        ("gold", "holds no plans"),
        ("{", "is no YAML"),
        ("gold: [\n- a\n- : b", "is no YAML"),
        ("!!python/object/apply:os.getcwd []", "is no YAML"),
        ("1: {maxActiveOutgoing: 1}", "put it in quotes"),
        ("no: {maxActiveOutgoing: 1}", "put it in quotes"),
        ("gold:", "must have maxActiveOutgoing and nothing else"),
        ("gold: 7", "must have maxActiveOutgoing and nothing else"),
        ("gold: {}", "must have maxActiveOutgoing and nothing else"),
        ("gold: {maxActiveOutgoing: 1, more: 2}", "must have maxActiveOutgoing and nothing else"),
        ("gold: {maxActiveOutgoing: -1}", "a number from 0 to 2147483647"),
        ("gold: {maxActiveOutgoing: 2147483648}", "a number from 0 to 2147483647"),
        ("gold: {maxActiveOutgoing: '7'}", "a number from 0 to 2147483647"),
        ("gold: {maxActiveOutgoing: 7.0}", "a number from 0 to 2147483647"),
        ("gold: {maxActiveOutgoing: true}", "a number from 0 to 2147483647"),
    ],
)
def test_a_file_that_holds_no_plans_stops_the_start_with_one_line(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{said}[^\n]*$"):
        read_plans(text)
    file = tmp_path / "plans.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=rf"^CROSSGRANT_PLANS: {file}: [^\n]+$"):
        load_plans(Settings(plans=file))


def test_a_file_that_cannot_be_read_stops_the_start_with_one_line(tmp_path: Path) -> None:
    binary = tmp_path / "plans.bin"
    binary.write_bytes(b"\xff\xfe")
    for file in (tmp_path, tmp_path / "nowhere.yaml", binary):
        with pytest.raises(SettingsError, match=rf"^CROSSGRANT_PLANS: {file}: [^\n]+$"):
            load_plans(Settings(plans=file))


async def test_a_plan_that_a_tenant_has_is_not_left_out(world: World) -> None:
    await world.tenant("acme")
    await world.read(check_plans, {"standard": 1, "gold": 2}, None)
    with pytest.raises(
        SettingsError, match=r"^CROSSGRANT_PLANS is not set, and acme has the plan standard[^\n]+$"
    ):
        await world.read(check_plans, {"gold": 2}, None)
