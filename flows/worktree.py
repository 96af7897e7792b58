"""Git worktrees that share the project's DVC cache: what one has computed, the others restore."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tasks.adapters.client import hide_password

# what a run writes and a sync must leave alone
OWN: Final = ("dvc.lock", "params.yaml", "metrics/", "reports/", "artifacts/")


def add_worktree(root: Path, folder: Path, commit: str = "HEAD") -> None:
    """A worktree of the project at `folder`, with its DVC settings and its cache.

    Raises:
        ValueError: the project is not a git repository with a commit.
    """
    git(root, "worktree", "prune")
    git(root, "worktree", "add", "--detach", "--quiet", str(folder), commit)
    _share_cache(root, folder)


def remove_worktree(root: Path, folder: Path) -> None:
    """Take a worktree away, whatever it holds; what its stages made stays in the cache."""
    git(root, "worktree", "remove", "--force", str(folder))


def sync(root: Path, folder: Path) -> None:
    """Copy what git would see in the project, changes and new files included, and remove what it no longer has."""
    current = set(git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")) - {""}
    present = set(git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")) - {""}
    for name in sorted(current):
        source, target = root / name, folder / name
        if name.startswith(OWN) or not source.is_file():
            continue
        if not target.is_file() or source.read_bytes() != target.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    for name in sorted(present - current):
        if not name.startswith(OWN):
            (folder / name).unlink(missing_ok=True)


def restore_finished(root: Path, folder: Path) -> None:
    """Have in `folder` what the project's last run left: its record, its metrics, and its outputs from the cache."""
    if root != folder and (root / "dvc.lock").is_file():
        shutil.copy2(root / "dvc.lock", folder / "dvc.lock")
    if root != folder and (root / "metrics").is_dir():
        shutil.copytree(root / "metrics", folder / "metrics", dirs_exist_ok=True)
    dvc(folder, "checkout", "--quiet", "--force")


def link_data(root: Path, folder: Path) -> None:
    """The user's data is not in git: link what is not there yet."""
    (folder / "data").mkdir(exist_ok=True)
    for entry in (root / "data").glob("*"):
        target = folder / "data" / entry.name
        if not target.exists() and not target.is_symlink():
            target.symlink_to(entry)


def upstream(root: Path) -> str | None:
    """The newest commit of what the current branch follows, fetched; None where it follows nothing.

    Raises:
        ConnectionError: it cannot be fetched.
    """
    try:
        git(root, "rev-parse", "--abbrev-ref", "@{upstream}")
    except ValueError:
        return None
    try:
        git(root, "fetch", "--quiet")
    except ValueError as error:
        raise ConnectionError(f"git fetch: {error}") from None
    return git(root, "rev-parse", "@{upstream}").strip()


def has_remote(folder: Path) -> bool:
    """Whether DVC has a default remote."""
    return dvc(folder, "config", "core.remote").returncode == 0


def transfer(folder: Path, direction: str, *options: str) -> None:
    """`pull` from the DVC remote or `push` to it: data, outputs and finished stages.

    Raises:
        ConnectionError: it does not answer, or lacks something.
    """
    done = dvc(folder, direction, "--run-cache", "--quiet", *options)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise ConnectionError(f"dvc {direction}: {hide_password(' '.join(said[:1])).removeprefix('ERROR: ')}")


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run DVC's command in a folder; what became of it is in the result."""
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def git(folder: Path, *arguments: str) -> str:
    """What git prints.

    Raises:
        ValueError: git's last line.
    """
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError((done.stderr.strip().splitlines() or ["git failed"])[-1])
    return done.stdout


def _share_cache(root: Path, folder: Path) -> None:
    """The project's own local settings of DVC, remotes and credentials among them, and its cache."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        cache = Path(repo.cache.legacy.path)
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(root / ".dvc" / "config.local", encoding="utf-8")
    settings["cache"] = {"dir": str(cache), "type": '"reflink,hardlink,symlink,copy"'}
    path = folder / ".dvc" / "config.local"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        settings.write(file)
