"""Where a recipe runs: params.yaml in the project itself, any other params file in a git worktree of its own.

So that a long run with other params never disturbs the project's files, and finished stages are kept for both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tasks.params import load_params

DEFAULT: Final = "params.yaml"
FOLDER: Final = ".downsize"
# what a run writes and a sync must leave alone
OWN: Final = ("dvc.lock", DEFAULT, "metrics/", "reports/", "artifacts/")


def find_root(start: Path) -> Path:
    """The folder at or above `start` that holds dvc.yaml.

    Raises:
        FileNotFoundError: there is none.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no dvc.yaml in {start.resolve()} or above it; run downsize inside the project")


def prepare(params: Path) -> Path:
    """The workspace of `params`, the user's data versioned and the tracking store chosen; all a run needs."""
    from tasks.adapters.versions import track

    root, recipe = find_root(Path.cwd()), load_params(params)
    named = [root / str(value) for name, value in recipe.ingest.source.args.items() if name in ("path", "folder")]
    # what lies elsewhere is read from there; DVC cannot version it
    if own := [path for path in named if path.resolve().is_relative_to((root / "data").resolve())]:
        track(root, own)
    tracked(root)
    return workspace(root, params)


def workspace(root: Path, params: Path) -> Path:
    """The folder in which the recipe of `params` runs, brought up to date with the project's files.

    Raises:
        ValueError: the project is not a git repository with a commit.
    """
    folder = location(root, params)
    if folder == root:
        return root
    if not folder.exists():
        _git(root, "worktree", "prune")
        _git(root, "worktree", "add", "--detach", "--quiet", str(folder), "HEAD")
        _share_cache(root, folder)
    _sync(root, folder)
    shutil.copyfile(params, folder / DEFAULT)
    _link_data(root, folder)
    return folder


def location(root: Path, params: Path) -> Path:
    """Where the recipe of `params` runs, whether or not it has."""
    if params.resolve() == (root / DEFAULT).resolve():
        return root
    return root / FOLDER / params.stem.removeprefix("params.")


def existing(root: Path, params: Path) -> Path:
    """The folder in which the recipe of `params` has run, untouched.

    Raises:
        FileNotFoundError: it has not.
    """
    folder = location(root, params)
    if not folder.exists():
        raise FileNotFoundError(f"{params}: has not run yet; `downsize run --params {params}` makes {folder}")
    return folder


def tracked(root: Path) -> None:
    """All workspaces track to the project's MLflow store, unless MLFLOW_TRACKING_URI says otherwise."""
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")


def _sync(root: Path, folder: Path) -> None:
    """Copy what git would see in the project, changes and new files included, and remove what it no longer has."""
    current = set(_git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")) - {""}
    present = set(_git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")) - {""}
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


def _link_data(root: Path, folder: Path) -> None:
    """The user's data is not in git: link it."""
    (folder / "data").mkdir(exist_ok=True)
    for entry in (root / "data").glob("*"):
        target = folder / "data" / entry.name
        if not target.exists() and not target.is_symlink():
            target.symlink_to(entry)


def _share_cache(root: Path, folder: Path) -> None:
    """One DVC cache for all workspaces, so that what one has computed the others restore."""
    config = f'[cache]\n    dir = {root / ".dvc" / "cache"}\n    type = "reflink,hardlink,symlink,copy"\n'
    (folder / ".dvc" / "config.local").write_text(config, encoding="utf-8")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["git failed"]
        raise ValueError(f"params other than {DEFAULT} run in a git worktree: {reason[0]}; commit the project once")
    return done.stdout
