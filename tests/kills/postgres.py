"""A PostgreSQL of the test's own, on a Unix socket in a temporary folder: Debian's package."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

USER = "postgres"
START_TIMEOUT_S = 60.0


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Its address, `postgresql://...`; `make test-postgres` installs what it needs."""
    programs = programs_folder()
    # Socket paths are short (about 100 bytes), so the folder is not below pytest's.
    folder = Path(tempfile.mkdtemp(prefix="glrf-pg-"))
    process = None
    try:
        if os.getuid() == 0:  # it does not run as root
            shutil.chown(folder, USER, USER)
        data = folder / "data"
        _run(programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "-N", "-E", "UTF8")
        process = subprocess.Popen(
            [
                *_as_user(),
                *(str(programs / "postgres"), "-D", str(data), "-k", str(folder)),
                *("-c", "listen_addresses=", "-c", "max_connections=200"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        _await_start(programs, folder, process)
        _run(programs / "createdb", "-h", folder, "-U", USER, "jobs")
        yield f"postgresql://{USER}@/jobs?host={folder}"
    finally:
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)  # ends its connections, in order
            process.wait()
        shutil.rmtree(folder)


def programs_folder() -> Path:
    """Where PostgreSQL's programs are; Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert versions, "there is no PostgreSQL; make test-postgres installs it"
    return versions[-1].parent


def _as_user() -> list[str]:
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] * (os.getuid() == 0)


def _run(program: Path, *arguments: object) -> None:
    command = [*_as_user(), str(program), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr


def _await_start(programs: Path, folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    ready = [programs / "pg_isready", "-q", "-h", folder, "-U", USER]
    while subprocess.run(ready, check=False).returncode:
        assert process.poll() is None, "PostgreSQL ended at its start"
        assert time.monotonic() < deadline_s, "PostgreSQL did not start in time"
        time.sleep(0.1)
