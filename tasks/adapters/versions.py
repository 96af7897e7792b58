"""Which data, code, params and packages a number comes from; and DVC, for the user's own data."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from pydantic import JsonValue
from ruamel.yaml import YAML

from tasks.params import Params

CARD: Final = Path("artifacts/data/card.json")
SPLIT: Final = Path("artifacts/split.npz")
PACKAGES: Final = ("dvc", "mlflow", "numpy", "onnx", "onnxruntime", "prefect", "scikit-learn", "torch")
# what a run itself changes makes no checkout dirty, nor the params, which are kept beside the run
OUTPUTS: Final = ("dvc.lock", "metrics", "reports", "artifacts", "params.yaml")


def lock_hash(root: Path) -> str | None:
    """The md5 of dvc.lock, or None where nothing has been reproduced yet."""
    path = root / "dvc.lock"
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else None


def data_md5s(root: Path) -> dict[str, str]:
    """DVC's md5 of every tracked file or folder below `data`, by its path from the root."""
    found = {}
    for pointer in sorted((root / "data").rglob("*.dvc")):
        if not pointer.is_file():
            continue
        for out in YAML(typ="safe", pure=True).load(pointer.read_text(encoding="utf-8"))["outs"]:
            found[(pointer.parent / out["path"]).relative_to(root).as_posix()] = str(out["md5"])
    return found


def track(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Put data files or folders that lie below `<root>/data` under DVC and return their md5s, as data_md5s does.

    What is tracked and unchanged stays as it is. Not for use inside a stage: DVC holds `data` while one runs.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a path lies elsewhere, `root` is no DVC project, or DVC refuses.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    folder = (root / "data").resolve()
    targets = sorted({path.resolve() for path in paths})
    for target in targets:
        if not target.is_relative_to(folder) or target == folder:
            raise ValueError(f"{target} must lie inside {folder} for DVC to track it")
        if not target.exists():
            raise FileNotFoundError(f"{target}: no such data file or folder")
    try:
        with _quiet_dvc(), Repo(str(root.resolve())) as repo:
            repo.add([str(target) for target in targets])
    except DvcException as error:
        raise ValueError(f"DVC cannot track the data: {' '.join(str(error).split())}") from None
    names = {target.relative_to(root.resolve()).as_posix() for target in targets}
    return {name: md5 for name, md5 in data_md5s(root).items() if name in names}


def data_sha256(root: Path) -> str:
    """The identity of the ingested data set, as card.json says; empty before the first ingest."""
    path = root / CARD
    return str(json.loads(path.read_text(encoding="utf-8"))["sha256"]) if path.is_file() else ""


def split_sha256(root: Path) -> str:
    """The identity of the split into training, validation and test samples; empty before there is one."""
    path = root / SPLIT
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def result_params(params: Params) -> dict[str, JsonValue]:
    """The resolved params that a result depends on: all but how it is kept, watched and searched."""
    beside = {"tracking", "register_", "timeouts", "schedule", "notify", "search"}
    return params.model_dump(mode="json", by_alias=True, exclude=beside)


def params_hash(params: Params) -> str:
    """The sha256 of the result's params; comments and layout of params.yaml do not count."""
    return hashlib.sha256(json.dumps(result_params(params), sort_keys=True).encode()).hexdigest()


def code_hash(params: Params, root: Path) -> str:
    """The sha256 of the code below tasks/ and of the modules in the project that the params name."""
    package = Path(__file__).parents[1]
    files = {f"tasks/{path.relative_to(package).as_posix()}": path for path in package.rglob("*.py")}
    for top in {name.partition(":")[0].partition(".")[0] for name in _factories(result_params(params))} - {"tasks"}:
        for path in [root / f"{top}.py", *(root / top).rglob("*.py")]:
            if path.is_file():
                files[path.relative_to(root).as_posix()] = path
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{hashlib.sha256(files[name].read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def recipe(params: Params, root: Path) -> str:
    """What makes two runs the same: sha256 of the result's params, the data and the code."""
    parts = (params_hash(params), data_sha256(root), code_hash(params, root))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def provenance(params: Params, root: Path) -> dict[str, str]:
    """The tags by which an MLflow run or version finds its origin; what is unknown is left out."""
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in OUTPUTS))
    tags = {
        "recipe": recipe(params, root),
        "params_sha256": params_hash(params),
        "data_sha256": data_sha256(root),
        "split_sha256": split_sha256(root),
        "dvc_lock": lock_hash(root),
        "git_commit": commit,
        "git_dirty": str(bool(changes)).lower() if commit else None,
        "packages": " ".join(packages()),
        "flow_run": os.environ.get("DOWNSIZE_FLOW_RUN"),
    }
    return {key: value for key, value in tags.items() if value}


def packages() -> list[str]:
    """Python and what results depend on, with their versions, as pip requirements."""
    return [f"python=={platform.python_version()}", *pinned(*PACKAGES)]


def pinned(*names: str) -> list[str]:
    """The installed versions of `names` as pip requirements; what is not installed is left out."""
    found = []
    for name in names:
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return found


def _factories(value: JsonValue) -> Iterator[str]:
    """Every `module:name` in the params."""
    if isinstance(value, dict):
        if isinstance(name := value.get("factory"), str):
            yield name
        for item in value.values():
            yield from _factories(item)
    elif isinstance(value, list):
        for item in value:
            yield from _factories(item)


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None where there is no git, no repository or no commit."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@contextmanager
def _quiet_dvc() -> Iterator[None]:
    """DVC draws no progress bars for a logger that is this quiet."""
    logger = logging.getLogger("dvc")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
