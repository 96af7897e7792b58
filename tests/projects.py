"""A small project of its own in a temporary folder: the repository's code, smoke params, git and DVC."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("dvc.yaml", ".dvcignore", ".gitignore", "data/README.md")
UNCOPIED = shutil.ignore_patterns("__pycache__")


def make_project(folder: Path, params: str = "params.smoke.yaml") -> Path:
    """Copy the code and make it a repository with one commit."""
    folder.mkdir(parents=True)
    for package in ("tasks", "flows"):
        shutil.copytree(ROOT / package, folder / package, ignore=UNCOPIED)
    for name in COPIED:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copyfile(ROOT / params, folder / "params.yaml")
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, sys.executable, "-m", "dvc", "init", "-q")
    run(folder, "git", "config", "user.email", "test@localhost")
    run(folder, "git", "config", "user.name", "test")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "start")
    return folder


def environment(folder: Path) -> dict[str, str]:
    """The child's: this Python's commands first, the project's code, nothing shared with other runs."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "MLFLOW"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return {**kept, "PATH": path, "PYTHONPATH": str(folder), "PREFECT_HOME": str(folder / ".prefect")}


def run(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in the project; its output is shown where it fails unasked."""
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def downsize(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command line."""
    return run(folder, sys.executable, "-m", "flows.cli", *arguments, check=check)


def free_port() -> int:
    """A port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
