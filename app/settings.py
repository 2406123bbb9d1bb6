"""The only reader of the environment: every `CROSSGRANT_*` variable, checked before anything starts."""

import os
import re
import secrets
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.rules.retry import LONGEST_DELAY, MOST_ATTEMPTS, SCHEDULE
from app.rules.tokens import TokenKind, well_formed

if TYPE_CHECKING:
    from sqlalchemy import URL

Network = IPv4Network | IPv6Network
Networks = Annotated[tuple[Network, ...], NoDecode]
Schedule = Annotated[tuple[float, ...], NoDecode]

_PREFIX = "CROSSGRANT_"
_PUBLIC = re.compile(
    r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/%-]*)?"
)


class SettingsError(Exception):
    """A setting that stops the start. Its text is one line for the operator."""


class Settings(BaseSettings):
    """Frozen for the life of the process."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, hide_input_in_errors=True)

    #: Where SQLite and generated secrets live.
    data_dir: Path = Path("./data")
    #: `postgresql+asyncpg://…` to leave SQLite.
    database_url: str | None = None
    #: 32+ characters; every key is derived from it. Generated into `data_dir` when unset.
    secret_key: SecretStr | None = None
    #: What clients call this gateway, without a trailing slash. Taken from the listening address when unset.
    public_url: str | None = None
    #: Networks that outbound calls may reach although they are private.
    egress_allow: Networks = ()
    #: Whose X-Forwarded-For counts.
    trusted_proxies: Networks = ()
    #: Opens `/metrics` beyond loopback to `Authorization: Bearer …`.
    metrics_token: SecretStr | None = None
    #: Seconds before each attempt of a webhook, each after the attempt before.
    webhook_schedule: Schedule = SCHEDULE
    #: Refuse webhook endpoints and callbacks that are not https://, and send nothing to those of before.
    require_https: bool = False
    #: A file in place of the plans that we ship.
    plans: Path | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO")

    @field_validator("egress_allow", "trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(_network(part.strip()) for part in value.split(",") if part.strip())

    @field_validator("webhook_schedule", mode="before")
    @classmethod
    def _delays(cls, value: object) -> object:
        return tuple(map(_delay, value.split(","))) if isinstance(value, str) else value

    @field_validator("webhook_schedule")
    @classmethod
    def _few(cls, value: Schedule) -> Schedule:
        if not 1 <= len(value) <= MOST_ATTEMPTS:
            raise ValueError(f"has {len(value)} delays: give 1 to {MOST_ATTEMPTS}")
        return value

    @field_validator(
        "data_dir", "database_url", "secret_key", "public_url", "metrics_token", "plans", mode="before"
    )
    @classmethod
    def _not_empty(cls, value: object) -> object:
        # A variable that was forgotten elsewhere arrives like this: it must not open /metrics, or leave PostgreSQL.
        if value == "":
            raise ValueError("is empty: give it a value, or unset it")
        return value

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: str | None) -> str | None:
        if value is None:
            return value
        if not value.startswith("postgresql+asyncpg://"):
            raise ValueError("must start with postgresql+asyncpg:// (unset it for SQLite)")
        _parts(value)
        return value

    @field_validator("secret_key")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError("must have at least 32 characters")
        return value

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str | None) -> str | None:
        return None if value is None else _address(value)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def sqlite_path(self) -> Path:
        return self.data_dir / "crossgrant.db"

    @property
    def store_name(self) -> str:
        """The store in words, for an operator."""
        if self.database_url is not None:
            return f"PostgreSQL {database_name(self.database_url)}"
        return f"SQLite {self.sqlite_path.resolve()}"


class ClientSettings(BaseSettings):
    """Of the commands that are clients of a gateway: its address, without a trailing slash, and a key for it."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, hide_input_in_errors=True)

    url: str = "http://127.0.0.1:8000"
    api_key: SecretStr = SecretStr("")

    @field_validator("url")
    @classmethod
    def _origin(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://, as in http://127.0.0.1:8000")
        return _address(value)

    @field_validator("api_key")
    @classmethod
    def _is_key(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value().strip()
        if text and not well_formed(TokenKind.API_KEY, text):
            raise ValueError(
                "is not a whole API key: those begin with cgk_ and are shown once, when they are made"
            )
        return SecretStr(text)


def _address(url: str) -> str:
    if not _PUBLIC.fullmatch(url):
        raise ValueError("must be as in https://gateway.example.com: a host, and perhaps a port and a path")
    return url.rstrip("/")


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        pass  # said below, in words that say what would be right
    try:
        whole = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network: write it as in 10.0.0.0/8") from None
    address = text.partition("/")[0]
    raise ValueError(
        f"{text} is an address within {whole}: write {whole} for that network, or {address} for this address alone"
    )


def _delay(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text.strip()) or float(text) > LONGEST_DELAY:
        raise ValueError(
            f"{text.strip()!r} is no delay: give seconds up to {LONGEST_DELAY:.0f}, separated by commas, as in 0,5,300"
        )
    return float(text)


def unknown_names() -> list[str]:
    """A line for each variable of the environment that looks like a setting and is none."""
    known = [name.upper() for name in {**Settings.model_fields, **ClientSettings.model_fields}]
    given = {name: name.upper().removeprefix(_PREFIX) for name in sorted(os.environ)}
    strange = {name: rest for name, rest in given.items() if rest != name.upper() and rest not in known}
    return [
        f"{name} is no setting and changes nothing{_nearest(rest, known)}" for name, rest in strange.items()
    ]


def _nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f": did you mean {_PREFIX}{near[0]}?" if near else ""


def _parts(url: str) -> "URL":
    # Here, for it takes longer to load than all else that a client of a gateway needs.
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # whose own text repeats the password
        raise ValueError("must be as in postgresql+asyncpg://user:password@host:5432/database") from None


def database_name(url: str) -> str:
    """A PostgreSQL as its operator knows it, as in `lending at 127.0.0.1:5432`: no user, no password."""
    parts = _parts(url)
    host = parts.host or parts.query.get("host") or "localhost"
    port = parts.port or parts.query.get("port") or 5432
    hosts = host if isinstance(host, str) else ", ".join(host)
    return f"{parts.database or parts.username or '(its default)'} at {hosts}:{port}"


def load(**overrides: object) -> Settings:
    """The process's settings. Raises SettingsError with one line that names the variable."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks what mypy cannot
    except ValidationError as error:
        raise _in_one_line(error) from None


def load_client(url: str | None, api_key: str | None) -> ClientSettings:
    """A client's settings; what is given goes before the environment. Raises SettingsError, which names the option or
    the variable that is wrong.
    """
    given = {name: value for name, value in (("url", url), ("api_key", api_key)) if value is not None}
    try:
        settings = ClientSettings(**given)  # type: ignore[arg-type]  # the same
    except ValidationError as error:
        name, what = _first(error)
        where = f"--{name.replace('_', '-')}" if name in given else _PREFIX + name.upper()
        raise SettingsError(f"{where} {what}") from None
    if not settings.api_key:
        raise SettingsError("no API key: set CROSSGRANT_API_KEY or give --api-key")
    return settings


def _in_one_line(error: ValidationError) -> SettingsError:
    name, what = _first(error)
    return SettingsError(f"{_PREFIX}{name.upper()}: {what}")


def _first(error: ValidationError) -> tuple[str, str]:
    """The first field that is wrong, and what is wrong with it."""
    first = error.errors()[0]
    name = str(first["loc"][0] if first["loc"] else "")
    match first:
        case {"type": "bool_parsing"}:
            return name, "give true or false"
        case {"type": "literal_error", "ctx": {"expected": expected}}:
            return name, "give " + expected.replace("'", "")
    return name, first["msg"].removeprefix("Value error, ")


def secret(settings: Settings) -> bytes:
    """The secret every key is derived from; made once, with mode 0600, where none is set."""
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    path = settings.data_dir / "secret.key"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _refuse_another(settings, path)
            _write_once(path, secrets.token_urlsafe(48))
        return path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(
            f"CROSSGRANT_DATA_DIR: cannot use {settings.data_dir}: {error.strerror}"
        ) from None


def _refuse_another(settings: Settings, path: Path) -> None:
    # With a new secret nothing in the database would open, and the new file would look like the one that is missing.
    if settings.database_url is None and settings.sqlite_path.exists() and not path.exists():
        raise SettingsError(
            f"CROSSGRANT_DATA_DIR: {path} is missing beside a database that was set up with it: "
            "restore it, or set CROSSGRANT_SECRET_KEY to the same secret"
        )


def _write_once(path: Path, text: str) -> None:
    # Written aside and linked into place: of two first starts one wins, and neither reads half a secret.
    aside = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
