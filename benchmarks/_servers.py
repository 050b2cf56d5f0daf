"""Run the servers that a team shares, each while a block runs, on 127.0.0.1 and in its own folder."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

HOST = "127.0.0.1"
# Settings of the caller that could change the result, or lend a key to somebody who should have their own.
FOREIGN = ("MLFLOW_", "DVC_", "AWS_", "NANIO_", "PG", "GIT_", "SSH_", "XDG_")


def fail(text: str) -> NoReturn:
    """End with a message; servers are stopped on the way out."""
    sys.exit(f"error: {text}")


def tool(name: str, package: str, *folders: Path) -> str:
    """Return a program's path, searched in more folders, too; if it is missing, say which Debian package has it."""
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))
    return found or fail(f"{name} is missing; install it with `apt-get install {package}`")


def environment(**variables: str) -> dict[str, str]:
    """Return the caller's environment without foreign settings, with this Python's commands and more variables."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return kept | {"DVC_NO_ANALYTICS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"} | variables


def free_ports(count: int) -> list[int]:
    """Return ports that are free."""
    with ExitStack() as held:  # all at once, so that they differ
        sockets = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def serving(folder: Path, port: int, page: str, *words: str, **variables: str) -> Iterator[None]:
    """Run a server while the block runs; wait until it accepts connections, or answers for ``page`` if given."""

    def ready() -> bool:
        with suppress(OSError):
            if page:
                urllib.request.urlopen(f"http://{HOST}:{port}{page}", timeout=10).close()
            else:
                socket.create_connection((HOST, port), timeout=10).close()
            return True
        return False

    begin = time.monotonic()
    with (folder / "log").open("w") as log:
        # In its own session, so that Ctrl-C reaches only this process, which then stops the server.
        server = subprocess.Popen(
            words, cwd=folder, env=environment(**variables), stdout=log, stderr=log, start_new_session=True
        )
    try:
        while not ready():
            if server.poll() is not None or time.monotonic() - begin > 300:
                fail(f"{words[0]} does not answer\n{(folder / 'log').read_text()[-3000:]}")
            time.sleep(0.5)
        print(f"{Path(words[0]).name} answers after {time.monotonic() - begin:.1f} s", flush=True)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def make_key(path: Path) -> None:
    """Make an SSH key without a passphrase."""
    words = [tool("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(words, check=True)


@contextmanager
def ssh_server(folder: Path, port: int, *keys: Path) -> Iterator[None]:
    """Run an sshd that lets the holders of the keys transfer files, and nothing else."""
    make_key(folder / "host_key")
    (folder / "allowed").write_text("".join(key.with_suffix(".pub").read_text() for key in keys))
    settings = {
        "ListenAddress": f"{HOST}:{port}",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": folder / "allowed",
        "AuthenticationMethods": "publickey",
        "StrictModes": "no",  # strict modes refuse a folder below /tmp, where everybody can write
        "UsePAM": "no",
        "PidFile": "none",
        "AllowUsers": getpass.getuser(),
        "Subsystem": "sftp internal-sftp",
        "ForceCommand": "internal-sftp",
        "DisableForwarding": "yes",
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # root's sshd confines part of itself to it
    sshd = tool("sshd", "openssh-server", Path("/usr/sbin"))
    with serving(folder, port, "", sshd, "-D", "-e", "-f", str(folder / "sshd_config")):
        yield


@contextmanager
def s3_server(folder: Path, port: int, buckets: list[str], **users: str) -> Iterator[None]:
    """Run nanio, which keeps a bucket in a folder; it checks signatures, and every user may do everything."""
    for bucket in buckets:
        (folder / "data" / bucket).mkdir(parents=True)
    tables = [f'[[users]]\naccess_key = "{name}"\nsecret_key = "{secret}"\n' for name, secret in users.items()]
    (folder / "options.toml").write_text("".join(tables))
    words = ["nanio", "serve", "--host", HOST, "--port", str(port), "--options", "options.toml", "--data-dir", "data"]
    with serving(folder, port, "", *words):
        yield


@contextmanager
def database(port: int, password: str) -> Iterator[None]:
    """Run a PostgreSQL cluster in its own folder, with a database for MLflow."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    initdb, control, create = (tool(name, "postgresql", *versions[-1:]) for name in ("initdb", "pg_ctl", "createdb"))
    # PostgreSQL refuses to run as root; Debian's package makes this user.
    owner: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="team-postgres-") as place:
        (Path(place) / "password").write_text(password)
        for path in (place, f"{place}/password") if owner else ():
            shutil.chown(path, owner["user"], owner["group"])

        def run(*words: str) -> None:
            # Into a file: the server outlives the command that starts it, and would keep a pipe open.
            with (Path(place) / "said").open("w+") as said:
                own = environment(PGPASSWORD=password)
                done = subprocess.run(words, cwd=place, env=own, stdout=said, stderr=subprocess.STDOUT, **owner)
                said.seek(0)
                if done.returncode != 0:
                    fail(f"{words[0]}: {said.read()}")

        run(initdb, "-D", "data", "-U", "mlflow", "-A", "scram-sha-256", "--pwfile=password", "-E", "UTF8")
        try:
            run(control, "-D", "data", "-l", "log", "-w", "-o", f"-h {HOST} -p {port} -k {place}", "start")
            run(create, "-h", HOST, "-p", str(port), "-U", "mlflow", "mlflow")
            yield
        finally:
            if (Path(place) / "data" / "postmaster.pid").exists():
                run(control, "-D", "data", "-m", "fast", "-w", "stop")


@contextmanager
def mlflow_server(folder: Path, port: int, store: str, artifacts: str, endpoint: str, secret: str) -> Iterator[None]:
    """Run `mlflow server` on a database and a bucket; secrets are in variables, since others see a command's words."""
    variables = {
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_ARTIFACTS_DESTINATION": artifacts,
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "mlflow",
        "AWS_SECRET_ACCESS_KEY": secret,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    words = ["mlflow", "server", "--host", HOST, "--port", str(port), "--allowed-hosts", f"{HOST}:{port}"]
    with serving(folder, port, "/health", *words, "--workers", "1", **variables):
        yield
