"""Settings: what is wrong with one is said in words that say what would be right."""

from pathlib import Path

import pytest

from app.rules.tokens import TokenKind, render
from app.settings import (
    ClientSettings,
    Settings,
    SettingsError,
    database_name,
    load,
    load_client,
    secret,
    unknown_names,
)

URL = "postgresql+asyncpg://lender:password@db.example:6432/lending"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("CROSSGRANT_DATABSE_URL", ": did you mean CROSSGRANT_DATABASE_URL?"),
        ("CROSSGRANT_EGRES_ALLOW", ": did you mean CROSSGRANT_EGRESS_ALLOW?"),
        ("crossgrant_publicurl", ": did you mean CROSSGRANT_PUBLIC_URL?"),
        ("CROSSGRANT_ZZZ", "is no setting and changes nothing"),
    ],
)
def test_a_variable_that_is_no_setting_is_named_with_the_nearest_that_is(
    monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    monkeypatch.setenv(name, "x")
    (line,) = [line for line in unknown_names() if line.startswith(name)]
    assert line.endswith(advice)
    assert "\n" not in line


def test_a_setting_is_no_stranger_however_it_is_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {**Settings.model_fields, **ClientSettings.model_fields}:
        monkeypatch.setenv(f"CROSSGRANT_{name.upper()}", "x")
    monkeypatch.setenv("crossgrant_data_dir", "x")
    monkeypatch.setenv("CROSSGRANT", "x")
    assert not [line for line in unknown_names() if "CROSSGRANT_TEST" not in line]


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("10.1.2.3/8", ("10.0.0.0/8", "10.1.2.3")),
        ("fd00::1/8", ("fd00::/8", "fd00::1")),
        ("127.0.0.0/8, 192.168.1.1/24", ("192.168.1.0/24", "192.168.1.1")),
        ("10.0.0.0/99", ("10.0.0.0/8",)),
        ("localhost", ("10.0.0.0/8",)),
    ],
)
def test_a_network_that_is_none_is_told_what_would_be_one(
    monkeypatch: pytest.MonkeyPatch, given: str, right: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CROSSGRANT_EGRESS_ALLOW", given)
    with pytest.raises(SettingsError, match=r"^CROSSGRANT_EGRESS_ALLOW: [^\n]+$") as raised:
        load()
    assert all(each in str(raised.value) for each in right)


@pytest.mark.parametrize(
    "name", ["DATA_DIR", "DATABASE_URL", "SECRET_KEY", "PUBLIC_URL", "METRICS_TOKEN", "PLANS"]
)
def test_a_setting_that_is_there_and_empty_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"CROSSGRANT_{name}", "")
    with pytest.raises(SettingsError, match=f"^CROSSGRANT_{name}: is empty[^\n]+$"):
        load()


@pytest.mark.parametrize(
    ("name", "given", "advice"),
    [
        ("REQUIRE_HTTPS", "maybe", "give true or false"),
        ("REQUIRE_HTTPS", "", "give true or false"),
        ("LOG_LEVEL", "LOUD", "give DEBUG, INFO, WARNING or ERROR"),
    ],
)
def test_what_has_few_values_is_told_them(
    monkeypatch: pytest.MonkeyPatch, name: str, given: str, advice: str
) -> None:
    monkeypatch.setenv(f"CROSSGRANT_{name}", given)
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value) == f"CROSSGRANT_{name}: {advice}"


@pytest.mark.parametrize(
    "url", ["gateway", "https://", "https://a b", "https://x/y?z=1", "https://u@x", "ftp://x"]
)
def test_what_clients_cannot_call_is_no_public_url(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CROSSGRANT_PUBLIC_URL", url)
    with pytest.raises(SettingsError, match=r"^CROSSGRANT_PUBLIC_URL: [^\n]+$"):
        load()


@pytest.mark.parametrize(
    "url", ["https://x.example", "http://localhost:8000/", "https://[::1]:8/crossgrant/"]
)
def test_a_public_url_has_no_slash_at_its_end(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CROSSGRANT_PUBLIC_URL", url)
    assert load().public_url == url.rstrip("/")


def test_no_new_secret_is_made_beside_a_database_that_was_set_up_with_another(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    first = secret(settings)
    settings.sqlite_path.touch()
    assert secret(settings) == first
    (tmp_path / "secret.key").unlink()
    with pytest.raises(SettingsError, match=r"^CROSSGRANT_DATA_DIR: [^\n]+secret.key is missing[^\n]+$"):
        secret(settings)
    assert [path.name for path in tmp_path.iterdir()] == [settings.sqlite_path.name]


def test_a_store_is_named_without_its_password(tmp_path: Path) -> None:
    assert Settings(database_url=URL).store_name == "PostgreSQL lending at db.example:6432"
    assert Settings(data_dir=tmp_path).store_name == f"SQLite {tmp_path}/crossgrant.db"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql+asyncpg://db/x", "x at db:5432"),
        ("postgresql+asyncpg:///x?host=/run/postgres&port=6432", "x at /run/postgres:6432"),
        ("postgresql+asyncpg:///x?host=a:1&host=b:2", "x at a:1, b:2"),
        ("postgresql+asyncpg:///x", "x at localhost:5432"),
    ],
)
def test_a_database_is_named_by_where_it_is(url: str, name: str) -> None:
    assert database_name(url).startswith(name)


def test_a_webhook_schedule_is_seconds_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().webhook_schedule == (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    monkeypatch.setenv("CROSSGRANT_WEBHOOK_SCHEDULE", "0, 0.25,3")
    assert load().webhook_schedule == (0, 0.25, 3)


@pytest.mark.parametrize("given", ["", "x", "0,,1", "-1", "1e3", "2592001", ",".join("1" * 101)])
def test_what_is_no_schedule_stops_the_start(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("CROSSGRANT_WEBHOOK_SCHEDULE", given)
    with pytest.raises(SettingsError, match=r"^CROSSGRANT_WEBHOOK_SCHEDULE: [^\n]+$"):
        load()


@pytest.mark.parametrize(
    ("variables", "given", "says"),
    [
        ({}, {}, "no API key: set CROSSGRANT_API_KEY or give --api-key"),
        ({"API_KEY": "cgk_x"}, {}, "CROSSGRANT_API_KEY is not a whole API key: those begin with cgk_"),
        ({}, {"api_key": "cgk_x"}, "--api-key is not a whole API key: those begin with cgk_"),
        ({"URL": "gateway"}, {}, "CROSSGRANT_URL must begin with http:// or https://, as in http://127."),
        ({}, {"url": "gateway"}, "--url must begin with http:// or https://, as in http://127."),
        ({"URL": "gateway"}, {"url": "http://"}, "--url must be as in https://gateway.example.com"),
    ],
)
def test_what_a_client_was_given_wrong_is_called_what_its_user_called_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], given: dict[str, str], says: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"CROSSGRANT_{name}", value)
    with pytest.raises(SettingsError) as wrong:
        load_client(given.get("url"), given.get("api_key"))
    assert str(wrong.value).startswith(says)


def test_blanks_around_a_key_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    key = render(TokenKind.API_KEY, bytes(32))
    monkeypatch.setenv("CROSSGRANT_API_KEY", f" {key}\n")
    assert load_client(None, None).api_key.get_secret_value() == key
    assert load_client(None, f"{key} ").api_key.get_secret_value() == key
