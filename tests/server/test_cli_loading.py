"""What a command loads: what it needs, and Ctrl-C meanwhile ends it without a word."""

import subprocess
from pathlib import Path

import pytest

from app.rules.tokens import TokenKind, render
from tests.serving import CROSSGRANT, PATIENCE, Installation

#: What takes the time of a start, beside typer and what it loads itself.
SLOW = ["aiohttp", "alembic", "asyncpg", "cryptography", "graphql", "sqlalchemy", "starlette", "strawberry"]
STORE = {"alembic", "cryptography", "sqlalchemy"}
CLIENT = {"aiohttp"}

NOBODY = ("--url", "http://127.0.0.1:9", "--api-key", render(TokenKind.API_KEY, bytes(32)))

LOADED = f"""
import atexit, sys
atexit.register(lambda: print(*sys.modules.keys() & {SLOW}, file=sys.stderr))
"""


#: As from a terminal, whoever runs the tests: what runs in the background has it ignored.
TERMINAL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


def run(folder: Path, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """`crossgrant` with these arguments, after some lines of Python."""
    *python, main = CROSSGRANT
    return subprocess.run(
        [*python, f"{TERMINAL}\n{before}\n{main}", *arguments],
        env=Installation(folder).environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "needs"),
    [
        ("--version", set()),
        ("--help", set()),
        ("serve --help", set()),
        ("trigger --list", set()),
        (f"listen {' '.join(NOBODY)}", CLIENT),
        (f"trigger webhook.test --endpoint whk_1 {' '.join(NOBODY)}", CLIENT),
        ("tenant create acme --name Acme", STORE),
    ],
)
def test_a_command_loads_what_it_needs(tmp_path: Path, arguments: str, needs: set[str]) -> None:
    done = run(tmp_path, *arguments.split(), before=LOADED)
    assert "Traceback" not in done.stderr
    assert set(done.stderr.splitlines()[-1].split()) <= needs


def interrupted_at(module: str, then: str = "raise") -> str:
    """Lines that press Ctrl-C when a module is about to be loaded. `then` is what becomes of an exception there."""
    return f"""
import signal, sys
class Interrupted:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            try:
                signal.raise_signal(signal.SIGINT)
            except BaseException:
                {then}
sys.meta_path.insert(0, Interrupted)
"""


@pytest.mark.parametrize(
    ("module", "then", "arguments"),
    [
        ("typer", "raise", "--version"),
        ("importlib.metadata", "pass", "--version"),
        ("aiohttp", "raise", "listen"),
        ("app.listen.trigger", "raise RuntimeError", "trigger webhook.test"),
        ("sqlalchemy.orm", "pass", "tenant create acme --name Acme"),
        ("sqlalchemy.orm", "raise RuntimeError", "tenant create acme --name Acme"),
        ("strawberry", "raise", "schema"),
        ("app.web.app", "raise", "serve --port 0"),
    ],
)
def test_ctrl_c_while_it_loads_ends_a_command_without_a_word(
    tmp_path: Path, module: str, then: str, arguments: str
) -> None:
    done = run(tmp_path, *arguments.split(), before=interrupted_at(module, then))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


#: Broken: Ctrl-C is an exception, whatever it interrupts.
AS_AN_EXCEPTION = """
import contextlib, app.cli, app.cli.interrupts
app.cli.loading = app.cli.interrupts.loading = contextlib.nullcontext
"""


def test_the_harness_catches_a_ctrl_c_that_a_module_can_take_for_its_own(tmp_path: Path) -> None:
    before = AS_AN_EXCEPTION + interrupted_at("sqlalchemy.orm", "pass")
    assert run(tmp_path, "tenant", "create", "acme", "--name", "Acme", before=before).returncode == 0


@pytest.mark.parametrize("arguments", ["migrate", pytest.param("serve --port 0", marks=pytest.mark.full)])
def test_ctrl_c_while_it_runs_ends_a_command_without_a_word(tmp_path: Path, arguments: str) -> None:
    done = run(tmp_path, *arguments.split(), before=interrupted_at("app.store.sqlite"))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


#: Presses Ctrl-C as soon as a key has been made, before anybody has seen it.
WHEN_IT_IS_MADE = """
import signal
from app.store import sqlite
made = sqlite.Sqlite.write
async def write(store, flow, *args, **kwargs):
    result = await made(store, flow, *args, **kwargs)
    signal.raise_signal(signal.SIGINT)
    return result
sqlite.Sqlite.write = write
"""


def test_a_key_that_is_made_is_shown_whatever_is_pressed(tmp_path: Path) -> None:
    made = run(tmp_path, "tenant", "create", "acme", "--name", "Acme")
    assert made.returncode == 0
    before = WHEN_IT_IS_MADE.replace("signal.raise", "flow.__name__ == 'grant_key' and signal.raise")
    done = run(tmp_path, "key", "create", "acme", "--role", "VIEWER", before=before)
    assert (done.returncode, "apiKey: cgk_" in done.stdout) == (0, True), done


def test_what_a_terminal_cannot_show_is_shown_otherwise_and_a_pasted_key_not_at_all(tmp_path: Path) -> None:
    ascii_only = "import sys; sys.stdout.reconfigure(encoding='ascii')"
    made = run(tmp_path, "tenant", "create", "acme", "--name", "Schlüssel ✓")
    (key,) = [line.partition(": ")[2] for line in made.stdout.splitlines() if line.startswith("apiKey: ")]
    listed = run(tmp_path, "tenant", "list", before=ascii_only)
    assert "Schl\\xfcssel \\u2713" in listed.stdout
    pasted = run(tmp_path, "key", "list", key)
    assert (pasted.returncode, key in pasted.stdout + pasted.stderr) == (2, False)


def test_who_starts_a_command_deaf_to_ctrl_c_has_it_deaf(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    done = run(tmp_path, "trigger", "--list", before=deaf + interrupted_at("typer"))
    assert (done.returncode, done.stderr) == (0, "")
