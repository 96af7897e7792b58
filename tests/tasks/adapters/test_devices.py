"""What of the record a version takes with it: by hand, with files that are told apart by their bytes alone."""

import hashlib
import json

import pytest

from tasks.adapters.devices import devices_of

OWN, PARENT, OTHER = b"integers", b"floats", b"of another run"


@pytest.fixture
def lineage(tmp_path):
    folders = {"quantized": tmp_path / "quantized", "pruned": tmp_path / "pruned"}
    for folder, content in zip(folders.values(), (OWN, PARENT), strict=True):
        folder.mkdir()
        (folder / "model.onnx").write_bytes(content)
    return folders


def record(folder, **contents):
    """Every device is served such a file, or none; which says a profile's name."""
    models = {OWN: "quantized", PARENT: "pruned", OTHER: "student"}
    rows = []
    for name, content in contents.items():
        served = content and {"model": models[content], "runtime": "onnxruntime", "threads": 2}
        where = content and {"file": f"{models[content]}/model.onnx", "sha256": hashlib.sha256(content).hexdigest()}
        rows.append({"name": name, "served": served and served | where, "misses": [] if content else ["size"]})
    (folder / "deploy.json").write_text(json.dumps({"profiles": rows}))
    return folder


def places(devices):
    return {row["name"]: row["served"] and row["served"]["file"] for row in devices.profiles}


def test_a_version_takes_its_own_file_and_the_one_it_was_made_from(lineage, tmp_path):
    found = devices_of(record(tmp_path, one=OWN, all=PARENT, tiny=None), lineage, passed=True)
    assert places(found) == {"one": "model.onnx", "all": "pruned/model.onnx", "tiny": None}
    assert found.beside == {"pruned/model.onnx": lineage["pruned"] / "model.onnx"}
    assert found.text() == "one: quantized in onnxruntime, 2 threads; all: pruned in onnxruntime, 2 threads"
    assert found.profiles[2]["misses"] == ["size"]


def test_a_file_that_no_device_is_served_is_not_taken(lineage, tmp_path):
    assert devices_of(record(tmp_path, one=OWN), lineage, passed=True).beside == {}


def test_the_same_file_as_its_parent_s_is_taken_once(lineage, tmp_path):
    (lineage["pruned"] / "model.onnx").write_bytes(OWN)
    found = devices_of(record(tmp_path, one=OWN), lineage, passed=True)
    assert places(found) == {"one": "model.onnx"} and found.beside == {}


def test_a_version_serves_nothing_that_was_made_from_it_or_in_another_run(lineage, tmp_path):
    pruned = {"pruned": lineage["pruned"]}
    found = devices_of(record(tmp_path, one=OWN, all=PARENT, old=OTHER), pruned, passed=True)
    assert places(found) == {"one": None, "all": "model.onnx", "old": None}
    assert found.profiles[0]["misses"] == ["quantized is served there, which is another version"]


@pytest.mark.parametrize(
    ("passed", "asked", "place"),
    [
        (True, {"all": PARENT}, "pruned/model.onnx"),  # as good, and slower by less than the gate minds
        (False, {"all": PARENT}, None),  # it was not good enough, and is loaded to be looked at
        (False, {"all": PARENT, "one": OWN}, "pruned/model.onnx"),  # too large for the budget, but good enough
    ],
)
def test_a_version_that_no_device_is_served_stands_for_another_one_only_where_it_passed(
    lineage, tmp_path, passed, asked, place
):
    found = devices_of(record(tmp_path, **asked), lineage, passed=passed)
    assert places(found)["all"] == place
    assert (found.text() == "model.onnx in onnxruntime, 1 thread") == (place is None)


def test_the_same_record_has_the_same_hash_and_another_has_another(lineage, tmp_path):
    first, again, other = (
        devices_of(record(tmp_path, **{"one": content}), lineage, passed=True).sha256()
        for content in (OWN, OWN, PARENT)
    )
    assert first == again != other
