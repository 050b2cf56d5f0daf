"""Act out a team that shares data, runs and models, with all the servers it needs, on this machine only.

    apt-get install openssh-server postgresql && pip install -r requirements-team.txt
    python benchmarks/team.py            # on this checkout's last commit; about ten minutes

Alice, Bob and Carol share a git repository, a DVC store behind SSH (OpenSSH) and one behind S3 (nanio), and an MLflow
server that keeps runs in PostgreSQL and artifacts on S3. Alice computes profile `tiny` on her own images. Bob takes her
results from S3, Carol from SSH; neither has anything left to compute. Bob changes a number; Alice compares, and uses
his model. The servers listen on 127.0.0.1; at the end they are removed with everything they kept. The first check that
fails ends the script with status 1. docs/teams.md explains the commands.
"""

import argparse
import getpass
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from _common import ROOT, finish
from _servers import HOST, database, environment, fail, free_ports, make_key, mlflow_server, s3_server, ssh_server
from exemplarcnn import paths
from exemplarcnn.files import md5_of, read_array

ENCODER, CLASSIFIER = "models:/exemplarcnn-encoder@champion", "models:/exemplarcnn-classifier@champion"


class Checks:
    """What was checked and measured; the first check that fails ends the script."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def add(self, what: str, good: bool, measured: str) -> None:
        """Note a check, or end with what is wrong."""
        if not good:
            fail(f"the check failed: {what} ({measured})")
        print(f"    checked: {what} ({measured})", flush=True)
        self.rows.append({"check": what, "measured": measured})


class Person:
    """Somebody with a home, an SSH key and a clone.

    Parameters
    ----------
    home
        Home folder; its last part is the person's name.
    tracking
        Address of the MLflow server.
    secret
        Secret key for the store on S3.
    """

    def __init__(self, home: Path, tracking: str, secret: str):
        self.home, self.name, self.clone, self.key = home, home.name, home / "clone", home / "key"
        self.tracking, self.secret = tracking, secret
        home.mkdir()
        make_key(self.key)

    def tries(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone, or at home before there is one; return the result even if it fails."""
        own = {"HOME": str(self.home), "MLFLOW_TRACKING_URI": self.tracking, "PYTHONPATH": f"{self.clone}/src"}
        own |= {"LOGNAME": self.name, "DVC_SITE_CACHE_DIR": str(self.home / "site")}
        for role in ("AUTHOR", "COMMITTER"):
            own |= {f"GIT_{role}_NAME": self.name, f"GIT_{role}_EMAIL": f"{self.name}@localhost"}
        where = self.clone if self.clone.exists() else self.home
        begin = time.monotonic()
        with subprocess.Popen(
            words,
            cwd=where,
            env=environment(**own),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate()
            except BaseException:  # Ctrl-C: what the command has started must end with it
                os.killpg(process.pid, signal.SIGKILL)
                raise
        shown = " ".join("SECRET" if word == self.secret else word for word in words)
        print(
            f"{self.name}: {shown.replace(str(self.home.parent), '')}    {time.monotonic() - begin:.1f} s", flush=True
        )
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def runs(self, *words: str) -> str:
        """Run a command that has to succeed; return what it prints."""
        done = self.tries(*words)
        if done.returncode != 0:
            fail(f"the command above ended with status {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def opens_s3(self) -> None:
        """Tell DVC this person's key for S3, in a file that git ignores."""
        self.runs("dvc", "remote", "modify", "--local", "team", "access_key_id", self.name)
        self.runs("dvc", "remote", "modify", "--local", "team", "secret_access_key", self.secret)

    def opens_ssh(self) -> None:
        """Tell DVC which user and key to use for SSH, in the same file."""
        self.runs("dvc", "remote", "modify", "--local", "office", "user", getpass.getuser())
        self.runs("dvc", "remote", "modify", "--local", "office", "keyfile", str(self.key))

    def repro(self, *words: str) -> list[str]:
        """Run `dvc repro`; return the stages that ran."""
        lines = self.runs("dvc", "repro", *words).splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")]

    def shares(self, message: str) -> None:
        """Commit everything that git does not ignore; push it, and what DVC keeps."""
        self.runs("git", "add", "--all")
        self.runs("git", "commit", "--quiet", "--message", message)
        self.runs("dvc", "push")
        self.runs("git", "push", "--quiet")

    def unsent(self, store: str) -> int:
        """Return how many objects of data and results a store lacks."""
        return len(json.loads(self.runs("dvc", "status", "--cloud", "-r", store, "--json")))

    def results(self) -> dict[str, str]:
        """Return the MD5 of every file of the data and of the stages' outs, by path."""
        locked = yaml.safe_load((self.clone / "dvc.lock").read_text())["stages"]
        # The lock keeps stages of other profiles.
        names = self.runs("dvc", "stage", "list", "--name-only").split()
        outs = [self.clone / out["path"] for name in names for out in locked[name]["outs"]]
        files = [file for out in [self.clone / paths.DATA, *outs] for file in [out, *out.rglob("*")] if file.is_file()]
        return {str(file.relative_to(self.clone)): md5_of(file) for file in files}

    def evaluations(self) -> pd.DataFrame:
        """Return what `exemplarcnn compare` shows."""
        return pd.DataFrame(json.loads(self.runs("exemplarcnn", "compare", "--json")))


def size(folder: Path) -> str:
    """Say how much a server keeps in a folder, without nanio's metadata."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".nanio-meta" not in path.parts]
    sizes = [path.stat().st_size for path in files]
    return f"{len(sizes):,} files, {sum(sizes) / 2**20:.1f} MiB"


def first_results(alice: Person, remotes: dict[str, tuple[str, Path]], endpoint: str, checks: Checks) -> None:
    """Let Alice name the stores, compute, and share; not on the embedded sample, which comes with git."""
    alice.runs("dvc", "remote", "add", "--default", "team", remotes["team"][0])
    alice.runs("dvc", "remote", "modify", "team", "endpointurl", endpoint)
    alice.runs("dvc", "remote", "add", "office", remotes["office"][0])
    alice.opens_s3()
    alice.opens_ssh()
    alice.runs("exemplarcnn", "data", "sample", "../images", "--seed", "1")
    alice.runs("exemplarcnn", "data", "use", "../images")
    alice.runs("exemplarcnn", "profile", "tiny")
    ran = alice.repro()
    checks.add("alice's `dvc repro` computes", bool(ran), f"{len(ran)} stages ran")
    lacked = {store: alice.unsent(store) for store in remotes}
    alice.shares("Profile tiny on our images")
    alice.runs("dvc", "push", "-r", "office")
    for store, (_, folder) in remotes.items():
        good = alice.unsent(store) == 0 < lacked[store]
        checks.add(f"`{store}` has all of alice's results", good, f"lacked {lacked[store]}; {size(folder)}")
    alice.runs("exemplarcnn", "log")
    alice.runs("exemplarcnn", "register")


def receive(person: Person, source: Person, store: str, closed: str, reason: str, checks: Checks) -> None:
    """Take everything that somebody else computed from one store; check that it is complete, the same, and enough."""
    person.opens_s3()
    person.opens_ssh()
    # Compared before the pull, too, to show that the comparison can fail.
    wanted, before = source.results(), person.results()
    done = person.tries("dvc", "pull", "-r", closed)
    good = done.returncode != 0 and reason in done.stderr and person.results() == before != wanted
    checks.add(f"{person.name}, whose key `{closed}` does not know, gets nothing", good, reason)
    begin = time.monotonic()
    person.runs("dvc", "pull")
    seconds = time.monotonic() - begin
    missing = f"{len(wanted) - len(before)} of {len(wanted)} files were missing, {seconds:.1f} s"
    checks.add(f"{person.name} pulls from `{store}`, to the byte", person.results() == wanted, missing)
    ran = person.repro("--pull")
    checks.add(f"{person.name}'s `dvc repro --pull` computes nothing", not ran, f"{len(ran)} stages ran")
    same = (person.clone / "dvc.lock").read_bytes() == (source.clone / "dvc.lock").read_bytes()
    status = person.runs("dvc", "status", "--json").strip()
    checks.add(f"{person.name}'s `dvc status` is clean, dvc.lock as it was", same and status == "{}", status)
    said = person.runs("exemplarcnn", "verify").strip()
    checks.add(f"{person.name}'s `exemplarcnn verify`", "all as recorded" in said, said)


def change(alice: Person, bob: Person, checks: Checks) -> None:
    """Let Bob change a number, and Alice use his model, then compare."""
    bob.runs("dvc", "exp", "run", "--name", "longer", "-S", "profile=tiny", "-S", "train.epochs=3")
    bob.shares("Three epochs")
    bob.runs("exemplarcnn", "register", "clustered", "--champion")

    # Before alice has any of bob's files: his model can only come from the server.
    pool, features = str(paths.DATA / "test_X.bin"), paths.eval_features("clustered", "test")
    alice.runs("exemplarcnn", "embed", pool, "--model", ENCODER, "--out", "../features.npy")
    found, own = read_array(alice.home / "features.npy"), read_array(alice.clone / features)
    good = np.array_equal(found, read_array(bob.clone / features)) and not np.array_equal(found, own)
    checks.add("alice's `embed` with the champion gives bob's features", good, f"{len(found)} images, equal to the bit")
    said = alice.runs("exemplarcnn", "predict", pool, "--model", CLASSIFIER, "--out", "../classes.csv").strip()
    checks.add("alice's `predict` with the champion", len(pd.read_csv(alice.home / "classes.csv")) == len(found), said)

    alice.runs("git", "pull", "--quiet")
    ran = alice.repro("--pull")
    good = not ran and alice.results() == bob.results()
    checks.add("alice's `dvc repro --pull` fetches bob's, computes nothing", good, f"{len(ran)} stages ran")
    diff = json.loads(alice.runs("dvc", "metrics", "diff", "--json", "HEAD~1"))
    figures = diff.get("reports/accuracy.json", {})
    checks.add("alice's `dvc metrics diff HEAD~1` shows it", bool(figures), f"{len(figures)} figures differ")
    table = alice.evaluations()
    epochs = sorted(table["train.epochs"].dropna().astype(int))
    checks.add("alice's `exemplarcnn compare` has the runs of both", set(epochs) == {2, 3}, f"epochs {epochs}")


def act(place: Path, checks: Checks, servers: ExitStack) -> None:
    """Start the servers, and let the three work."""
    ssh_port, s3_port, database_port, port = free_ports(4)
    endpoint, tracking = f"http://{HOST}:{s3_port}", f"http://{HOST}:{port}"
    secret = {name: secrets.token_hex(16) for name in ("alice", "bob", "carol", "mlflow", "database")}
    alice, bob, carol = (Person(place / name, tracking, secret[name]) for name in ("alice", "bob", "carol"))
    store = f"postgresql+psycopg2://mlflow:{secret['database']}@{HOST}:{database_port}/mlflow"
    ssh, s3, runs, office = place / "ssh", place / "s3", place / "mlflow", place / "ssh" / "store"
    for folder in (ssh, s3, runs, office):
        folder.mkdir()
    users = {name: secret[name] for name in ("alice", "bob", "mlflow")}
    servers.enter_context(ssh_server(ssh, ssh_port, alice.key, carol.key))
    servers.enter_context(s3_server(s3, s3_port, ["dvc", "mlflow"], **users))
    servers.enter_context(database(database_port, secret["database"]))
    servers.enter_context(mlflow_server(runs, port, store, "s3://mlflow/artifacts", endpoint, secret["mlflow"]))

    shared = place / "shared.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", str(shared)], check=True)
    subprocess.run(["git", "push", "--quiet", str(shared), "HEAD:refs/heads/main"], cwd=ROOT, check=True)
    alice.runs("git", "clone", "--quiet", str(shared), str(alice.clone))
    remotes = {
        "team": ("s3://dvc/exemplarcnn", s3 / "data" / "dvc"),
        "office": (f"ssh://{HOST}:{ssh_port}{office}", office),
    }
    first_results(alice, remotes, endpoint, checks)
    for person in (bob, carol):
        person.runs("git", "clone", "--quiet", str(shared), str(person.clone))
    receive(bob, alice, "team", "office", "Permission denied", checks)
    # Without this, `dvc repro --pull` asks the store on S3 even if nothing is missing, and fails.
    carol.runs("dvc", "remote", "default", "--local", "office")
    receive(carol, alice, "office", "team", "Forbidden", checks)
    before = bob.evaluations()
    bob.runs("exemplarcnn", "log")
    checks.add("bob's `exemplarcnn log` makes no second run", bob.evaluations().equals(before), f"{len(before)} runs")
    change(alice, bob, checks)

    import mlflow

    client = mlflow.MlflowClient(tracking)
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    makers = Counter(run.data.tags["mlflow.user"] for run in found)
    checks.add("runs say who made them", set(makers) == {"alice", "bob"}, str(dict(makers)))
    schemes = {run.info.artifact_uri.partition(":")[0] for run in found}
    checks.add("artifacts go to S3 by way of the server", schemes == {"mlflow-artifacts"}, size(s3 / "data" / "mlflow"))
    history = subprocess.run(["git", "log", "--all", "-p"], cwd=shared, capture_output=True, check=True).stdout
    leaked = [name for name, text in secret.items() if text.encode() in history]
    checks.add("no secret is in git", not leaked, f"{len(secret)} looked for in all commits")


def main() -> None:
    """Run the benchmark."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if any(importlib.util.find_spec(name) is None for name in ("dvc_ssh", "dvc_s3", "nanio", "psycopg2", "boto3")):
        fail("packages are missing; run `pip install -r requirements-team.txt`")
    signal.signal(signal.SIGTERM, lambda *_: fail("terminated from outside; run it again"))
    checks, begin = Checks(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="team-") as place, ExitStack() as servers:
        act(Path(place), checks, servers)
    finish(pd.DataFrame(checks.rows), "team", seconds=round(time.monotonic() - begin, 1), checks=checks.rows)


if __name__ == "__main__":
    main()
