"""Python processes that start in a moment: forked from one that has imported the libraries already.

Every command of a pipeline test is a process of its own, as it is for a user, and most of its time would go into
importing torch, mlflow and dvc: three to six seconds each time. Here a server imports them once, and none of this
package, whose code each process reads from its own project. ``warm.py SOCKET SOURCE OWNER`` is the server; a
``python``, ``dvc``, ``exemplarcnn`` or ``mlflow`` in the folder that `start` makes hands its arguments, environment,
folder and open files over to it, and waits.
"""

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import shlex
import signal
import socket
import stat
import struct
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

SCRIPTS = ("dvc", "exemplarcnn", "mlflow")
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The modules of the commands, and what they load late.
COMMANDS = (
    "torch",
    "dvc.cli",
    "dvc.commands.repro",
    "dvc.repo",
    "mlflow.cli",
    "mlflow.projects",
    "mlflow.store.tracking.sqlalchemy_store",
    "matplotlib.backends.backend_agg",
    "sklearn.svm",
)
# Modules that do something when they are imported, which each process is to do for itself.
NOT_BEFORE = ("exemplarcnn", "tests", "_pytest", "pytest", "__main__")

# What a command does. Nothing that takes time to import: this is what every command pays for.


def ask(address: str, words: list[str]) -> int:
    """Have the server run a Python command with this process's environment, folder and files; return its status."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        request = json.dumps({"words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)}).encode()
        files = array.array("i", [0, 1, 2])
        server.sendmsg([struct.pack("I", len(request))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        server.sendall(request)
        answers = server.makefile("r")
        child = int(answers.readline())
        for number in PASSED_ON:
            signal.signal(number, lambda number, frame: os.kill(child, number))
        status = int(answers.readline())
    if status < 0:  # ended by a signal, as this one is to be then
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


# The server


def import_libraries(source: Path) -> None:
    """Import what the package and its commands load, but for the package: a child finds out what that is."""
    for name in COMMANDS:
        importlib.import_module(name)
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.close(ours)
        sys.path.insert(0, str(source))
        package = importlib.import_module("exemplarcnn")
        for found in pkgutil.walk_packages(package.__path__, "exemplarcnn."):
            importlib.import_module(found.name)
        with os.fdopen(theirs, "w") as stream:
            stream.write("\n".join(sys.modules))
            stream.flush()
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as stream:
        names = stream.read().split()
    if not names:
        raise RuntimeError("the package cannot be imported")
    for name in names:
        if name.split(".")[0] not in NOT_BEFORE:
            with contextlib.suppress(Exception):  # names that only look like modules
                importlib.import_module(name)


def serve(address: str, source: Path, owner: int) -> NoReturn:
    """Import everything, then fork a process for each connection, as long as another process, the owner, is there."""
    import_libraries(source)
    gc.collect()
    gc.freeze()  # else each process goes through a million objects again and again, and copies the pages they are in
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who attends to a command
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        listening.settimeout(1)
        while Path(f"/proc/{owner}").exists():
            with contextlib.suppress(TimeoutError):
                connection, _ = listening.accept()
                if os.fork() == 0:
                    listening.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    connection.settimeout(None)
                    _attend(connection)
                connection.close()
    sys.exit()


def _attend(connection: socket.socket) -> NoReturn:
    """Fork the process that was asked for; tell its number, then its status; end it when nobody waits any more."""
    head, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(3 * 4))
    files = array.array("i", ancillary[0][2])
    (length,) = struct.unpack("I", head)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.read(length))
    child = os.fork()
    if child == 0:
        connection.close()
        _become(request, files)
    for file in files:
        os.close(file)
    connection.sendall(f"{child}\n".encode())

    def watch() -> None:
        with contextlib.suppress(OSError):
            connection.recv(1)
            os.kill(child, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], files: "array.array[int]") -> NoReturn:
    """Run a Python command line in this process, and end it as Python ends."""
    for target, file in enumerate(files):
        os.dup2(file, target)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("stdin", "stdout", "stderr"):  # of this process's own: what a terminal is differs
        number = getattr(sys, f"__{name}__").fileno()
        # Open as long as the process lives, hence no `with`.
        stream = open(number, "r" if name == "stdin" else "w", buffering=1, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
    path = request["environment"].get("PYTHONPATH", "")
    # PYTHONPATH may be relative, as in dvc.yaml's commands.
    sys.path[:0] = [str(Path(folder).resolve()) for folder in path.split(os.pathsep) if folder]
    status, interrupted = 0, False
    try:
        _run(request["words"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status, interrupted = 1, isinstance(error, KeyboardInterrupt)
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # what Python calls when it ends; no public name does it
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status)


def _run(words: list[str]) -> None:
    if words[0] == "-m":
        sys.path.insert(0, str(Path.cwd()))
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


# The commands


def write_commands(folder: Path, address: str) -> None:
    """Write `python`, and the scripts that pipelines start, as commands that ask the server at an address."""
    scripts = Path(sysconfig.get_path("scripts"))
    for name in ("python", *SCRIPTS):
        first = "" if name == "python" else f"words = [{str(scripts / name)!r}, *words]"
        # For sh, lines 2 and 3 start Python on this file, whose path may have blanks or be too long for line 1, as in
        # pip's scripts; for Python they are a text.
        text = f"""#!/bin/sh
'''exec' {shlex.quote(sys.executable)} -SE "$0" "$@"
'''
import os, sys
words = sys.argv[1:]
{first}
if words[:1] == ["-m"] and words[1].startswith("exemplarcnn.stages.") or {name != "python"}:
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    import warm
    sys.exit(warm.ask({address!r}, words))
os.execv({sys.executable!r}, [{sys.executable!r}, *words])
"""
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)


def start(folder: Path, source: Path, owner: int) -> None:
    """Make a folder of commands, and start the server that they ask; it ends when the owner, a process, does."""
    folder.mkdir(parents=True)
    address = str(folder / "socket")
    write_commands(folder, address)
    words = [sys.executable, __file__, address, str(source), str(owner)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
    while not Path(address).exists():
        if server.poll() is not None:
            raise RuntimeError((folder / "log").read_text())
        time.sleep(0.05)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
