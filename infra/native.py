"""The servers of compose.yaml without Docker: PostgreSQL, S3 storage, MLflow and Prefect with a worker, on loopback.

Needs Python and Debian's `postgresql`, nothing of Downsize but its constraints. Everything lies in one folder: data,
logs, and the passwords, which are made at the first start and stand in no other place.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import postgres
from processes import HOST, await_answer, end_orphans, finish, listens, running, spawn, stop, write_private

ROOT: Final = Path(__file__).resolve().parents[1]
VENV: Final = ROOT / ".stack" / "venv"  # of the servers of every stack
BIN: Final = VENV / "bin"
SERVERS: Final = ("postgres", "s3", "mlflow", "prefect")  # on one port each, from the first one on
DATABASES: Final = ("mlflow", "mlflow_auth", "prefect", "optuna")
BUCKETS: Final = ("dvc", "mlflow")
POOL: Final = "downsize"
PACKAGES: Final = ("mlflow[auth]", "prefect", "fastapi<0.151", "sqlalchemy<2.1", "psycopg2-binary", "boto3", "nanio")
QUIET: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes for what Downsize does not use
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


class Stack(NamedTuple):
    """Where one stack lives, how it is reached, and its secrets."""

    home: Path
    ports: Mapping[str, int]
    secret: Mapping[str, str]

    def url(self, name: str) -> str:
        """Of one of the servers that speak HTTP."""
        return f"http://{HOST}:{self.ports[name]}"

    def database(self, name: str, driver: str = "postgresql") -> str:
        """A database's address, with its password."""
        return f"{driver}://{name}:{self.secret[name]}@{HOST}:{self.ports['postgres']}/{name}"


def main() -> int:
    """Start or stop the stack; one line says what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("--home", type=Path, default=ROOT / ".stack", help="its folder (default: .stack)")
    parser.add_argument("--first-port", type=int, default=5700, help=f"of {len(SERVERS)}: {', '.join(SERVERS)}")
    asked = parser.parse_args()
    try:
        if asked.action == "down":
            down(asked.home.resolve())
        else:
            up(load(asked.home.resolve(), asked.first_port))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    return 0


def load(home: Path, first_port: int) -> Stack:
    """The stack of this folder; its secrets are made at the first call, readable by their owner alone."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o711)  # PostgreSQL's user has to pass through
    path = home / "secrets.env"
    if not path.exists():
        names = ("admin", "postgres", "s3", "flask", *DATABASES)
        write_private(path, "".join(f"{name}={secrets.token_urlsafe(24)}\n" for name in names))
    secret = dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return Stack(home, {name: first_port + place for place, name in enumerate(SERVERS)}, secret)


def up(stack: Stack) -> None:
    """Start what does not run yet, and say how to reach it."""
    start = time.monotonic()
    for name in ("worker", *stack.ports):
        end_orphans(stack.home, name)
    for name, port in stack.ports.items():
        ours = postgres.runs(stack.home / name) if name == "postgres" else running(stack.home, name)
        if not ours and listens(port):
            raise RuntimeError(f"port {port} for {name} is taken by another program; --first-port takes a free range")
    install()
    databases(stack)
    environment = server_environment(stack)
    for name, command in commands(stack).items():
        spawn(stack.home, name, command, environment)
    for name, path in {"s3": "/", "mlflow": "/health", "prefect": "/api/health"}.items():
        await_answer(stack.url(name) + path, stack.home, name)
    make_buckets(stack, environment)
    start_worker(stack, environment)
    exported = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in client_environment(stack).items())
    write_private(stack.home / "client.env", exported)
    print(f"up in {time.monotonic() - start:.0f} s: MLflow {stack.url('mlflow')}, Prefect {stack.url('prefect')}")
    print(f"user admin; the way to it, password included: source {stack.home / 'client.env'}")


def down(home: Path) -> None:
    """Stop the servers, the last one first; data and secrets stay."""
    for name in ("worker", "prefect", "mlflow", "s3"):
        stop(home, name)
    postgres.stop(home / "postgres")


def install() -> None:
    """The servers' own environment, with the project's pins."""
    whole = VENV / "whole"
    if whole.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(BIN / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *PACKAGES], check=True)
    whole.touch()


def databases(stack: Stack) -> None:
    """PostgreSQL, with one role and database for each of its users."""
    port, admin = stack.ports["postgres"], stack.secret["postgres"]
    postgres.start(stack.home / "postgres", port, admin)
    postgres.make_databases(port, admin, {name: stack.secret[name] for name in DATABASES})
    # Prefect asks for it, and its role may not make it
    postgres.psql(port, admin, "create extension if not exists pg_trgm", database="prefect")


def commands(stack: Stack) -> dict[str, list[str]]:
    """Of the servers beside PostgreSQL; none shows a password, which go by the environment and by private files."""
    storage = stack.home / "s3"
    storage.mkdir(exist_ok=True)
    ini = f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {stack.database('mlflow_auth')}\n"
    login = f"admin_username = admin\nadmin_password = {stack.secret['admin']}\n"
    write_private(stack.home / "mlflow_auth.ini", ini + login)
    served = {name: ["--host", HOST, "--port", str(port)] for name, port in stack.ports.items()}
    mlflow = ["--workers", "1", "--app-name", "basic-auth", "--artifacts-destination", "s3://mlflow"]
    return {
        "s3": [str(BIN / "nanio"), "serve", *served["s3"], "--data-dir", str(storage)],
        "mlflow": [str(BIN / "mlflow"), "server", *served["mlflow"], *mlflow],
        "prefect": [str(BIN / "prefect"), "server", "start", *served["prefect"]],
    }


def start_worker(stack: Stack, environment: Mapping[str, str]) -> None:
    """The worker runs the flows, and so needs the project's own environment and not the servers'."""
    prefect = ROOT / ".venv" / "bin" / "prefect"
    if not prefect.exists():
        print("no worker, since the project is not installed: make install, then this again")
        return
    finish([str(prefect), "work-pool", "create", POOL, "--type", "process", "--overwrite"], environment)
    spawn(stack.home, "worker", [str(prefect), "worker", "start", "--pool", POOL, "--name", "native"], environment)


def make_buckets(stack: Stack, environment: Mapping[str, str]) -> None:
    """Those that DVC and MLflow write to."""
    code = (
        "import boto3, sys; s3 = boto3.client('s3'); known = [b['Name'] for b in s3.list_buckets()['Buckets']];"
        "[s3.create_bucket(Bucket=b) for b in sys.argv[1:] if b not in known]"
    )
    finish([str(BIN / "python"), "-c", code, *BUCKETS], environment)


def server_environment(stack: Stack) -> dict[str, str]:
    """What the servers and the worker are told."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "MLFLOW", "AWS"))}
    return {
        **kept,
        **QUIET,
        **client_environment(stack),
        "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")]),
        "NANIO_ACCESS_KEY": "downsize",
        "NANIO_SECRET_KEY": stack.secret["s3"],
        "MLFLOW_BACKEND_STORE_URI": stack.database("mlflow"),
        "MLFLOW_S3_ENDPOINT_URL": stack.url("s3"),
        "MLFLOW_AUTH_CONFIG_PATH": str(stack.home / "mlflow_auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": stack.secret["flask"],
        "PREFECT_HOME": str(stack.home / "prefect"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": stack.database("prefect", "postgresql+asyncpg"),
        "PREFECT_SERVER_API_AUTH_STRING": f"admin:{stack.secret['admin']}",
        "PREFECT_SERVER_UI_API_URL": f"{stack.url('prefect')}/api",
    }


def client_environment(stack: Stack) -> dict[str, str]:
    """What a person, a flow and a worker need to reach the stack."""
    return {
        "MLFLOW_TRACKING_URI": stack.url("mlflow"),
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": stack.secret["admin"],
        "PREFECT_API_URL": f"{stack.url('prefect')}/api",
        "PREFECT_API_AUTH_STRING": f"admin:{stack.secret['admin']}",
        "AWS_ENDPOINT_URL": stack.url("s3"),
        "AWS_ACCESS_KEY_ID": "downsize",
        "AWS_SECRET_ACCESS_KEY": stack.secret["s3"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "OPTUNA_STORAGE": stack.database("optuna", "postgresql+psycopg2"),
    }


if __name__ == "__main__":
    sys.exit(main())
