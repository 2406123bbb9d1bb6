"""What is typed wrong is one line that says what would be right, and where the command's help is."""

import pytest

from app.cli import main
from app.rules.permissions import Role

ROLES = ", ".join(Role)


def typed(monkeypatch: pytest.MonkeyPatch, arguments: str) -> object:
    """The command line with these arguments; the code with which it ends."""
    monkeypatch.setattr("sys.argv", ["crossgrant", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "says", "see"),
    [
        ("serve --port abc", "'--port': 'abc' is no whole number from 0 to 65535", "serve"),
        ("serve --port 99999", "'--port': '99999' is no whole number from 0 to 65535", "serve"),
        ("serve --port -1", "'--port': '-1' is no whole number from 0 to 65535", "serve"),
        ("serve --port ٣", "'--port': '٣' is no whole number from 0 to 65535", "serve"),
        ("agent trust agt_1 abc", "'score': 'abc' is no whole number from 0 to 100", "agent trust"),
        ("agent trust agt_1 101", "'score': '101' is no whole number from 0 to 100", "agent trust"),
        ("key create acme --role BOSS", f"'--role': 'BOSS' is no role: give one of {ROLES}", "key create"),
        ("key create acme", f"Missing option '--role'. Choose from: {ROLES}", "key create"),
        ("key create", "Missing argument 'tenant'", "key create"),
        ("key creat", "No such command 'creat'. Did you mean 'create'?", "key"),
        ("key list acme --x", "No such option: --x", "key list"),
        ("tenant list x y", "unexpected extra argument(s) (x y)", "tenant list"),
    ],
)
def test_what_is_typed_wrong_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, says: str, see: str
) -> None:
    assert typed(monkeypatch, arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("crossgrant: ")
    assert err.endswith(f"{says} (see `crossgrant {see} --help`)\n")


@pytest.mark.parametrize("arguments", ["", "tenant"])
def test_nothing_typed_is_answered_with_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str
) -> None:
    assert typed(monkeypatch, arguments) == 2
    out, err = capsys.readouterr()
    assert "Usage: crossgrant" in out
    assert "crossgrant: " not in err
