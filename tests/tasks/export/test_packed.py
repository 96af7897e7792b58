"""What is packed comes back bit for bit; what is damaged or lies is refused before it fills the memory."""

import hashlib
import lzma
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load, save
from toy import card, pictures

from tasks import checkpoint
from tasks.data.splits import moments
from tasks.export.onnx import export
from tasks.export.packed import HEADER, MAGIC, pack, packed, unpack, unpacked
from tasks.params import Factory, UnstructuredPruning
from tasks.prune.evidence import Evidence
from tasks.prune.unstructured import shrink_


def weights(sparsity, dtype=np.float32, size=100_000):
    generator = np.random.default_rng(0)
    values = generator.normal(scale=40, size=size)
    values[generator.random(size) < sparsity] = 0
    return save({"w": values.astype(dtype)})


CASES = {
    "empty": b"",
    "one byte": b"x",
    "zeros": bytes(10_000),
    "noise": np.random.default_rng(1).bytes(3001),
    "sparse": weights(0.9),
    "int8": weights(0.5, np.int8),
}


@pytest.mark.parametrize("name", CASES)
def test_back_bit_for_bit_and_the_same_bytes_each_time(name):
    data = CASES[name]
    small = packed(data)
    assert unpacked(small) == data and packed(data) == small


@pytest.mark.parametrize(("sparsity", "share"), [(0.5, 0.54), (0.8, 0.24), (0.95, 0.07)])
def test_a_sparse_file_shrinks_to_about_its_share_of_weights(sparsity, share):
    data = weights(sparsity)
    assert len(packed(data)) < share * len(data)


def test_words_of_four_bytes_are_packed_better_than_by_plain_xz():
    for sparsity in (0, 0.5, 0.8):
        data = weights(sparsity)
        assert len(packed(data)) < len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def test_the_file_of_a_pruned_network_shrinks_to_about_its_share_of_weights(tmp_path):
    """As the stage prune writes it; beside the weights lie the graph and its names."""
    shape, data = (1, 8, 8), pictures()
    factory = Factory(factory="tasks.models.cnn:CNN", args={"channels": [16, 32, 32], "strides": [2, 1, 1]})
    model = checkpoint.build(factory, card(shape), moments(data), 0, "model")
    params = UnstructuredPruning.model_validate({"pattern": "unstructured", "target": {"sparsity": 0.9}})
    next(shrink_(model, params, Evidence(shape, lambda _: (0.0, 0.0)), [1.0]))
    export(model, card(shape), data, tmp_path, "model")
    plain = (tmp_path / "model.onnx").read_bytes()
    small = pack(tmp_path / "model.onnx").read_bytes()
    assert len(small) < 0.2 * len(plain) and unpacked(small) == plain


def test_any_xz_opens_what_follows_the_header():
    data = weights(0.9)
    assert lzma.decompress(packed(data)[48:]) == data


def test_files(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(weights(0.9))
    small = pack(path)
    assert small.name == "weights.safetensors.packed" and small.stat().st_size < 0.2 * path.stat().st_size
    with pytest.raises(FileExistsError, match=r"weights.safetensors exists; move it away first$"):
        unpack(small)
    path.unlink()
    assert unpack(small) == path and path.read_bytes() == weights(0.9) and (load(path.read_bytes())["w"] == 0).any()
    with pytest.raises(FileExistsError, match=r"packed exists"):
        pack(path)
    assert sorted(own.name for own in tmp_path.iterdir()) == ["weights.safetensors", "weights.safetensors.packed"]


def relabelled(data, *, size=None, digest=None):
    _, own_size, own_digest = HEADER.unpack_from(data)
    header = HEADER.pack(MAGIC, own_size if size is None else size, own_digest if digest is None else digest)
    return header + data[HEADER.size :]


GOOD = packed(CASES["sparse"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "^not a packed file"),
        (GOOD[:47], "^not a packed file"),
        (b"PK" + GOOD[2:], "^not a packed file"),
        (GOOD[:-9], "^damaged"),
        (GOOD[:48], "^damaged"),
        (GOOD + b"more", "^damaged: its stream is not of"),
        (relabelled(GOOD, size=10), "^damaged: its stream is not of the 10 bytes"),
        (relabelled(GOOD, size=10**6), "^damaged: its stream is not of"),
        (relabelled(GOOD, digest=bytes(32)), "^damaged: its contents have another SHA-256"),
        (relabelled(GOOD, size=2**63), "^declares 9,223,372,036,854,775,808 bytes; at most 4,294,967,296"),
        (GOOD[:60] + bytes([GOOD[60] ^ 255]) + GOOD[61:], "^damaged"),
    ],
)
def test_bad_files_are_refused_in_one_line(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        unpacked(data)
    path = tmp_path / "model.onnx.packed"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"model.onnx.packed: {message[1:]}"):
        unpack(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_changed_byte_never_gives_other_contents():
    data = packed(b"some weights " * 9)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        try:
            assert unpacked(bytes(changed)) == b"some weights " * 9  # a reserved bit of the stream's padding, at most
        except ValueError:
            continue


def test_a_bomb_that_declares_little_takes_little_memory():
    bomb = lzma.compress(bytes(64 << 20), preset=0)
    data = struct.pack("<8sQ32s", MAGIC, 1000, hashlib.sha256(bytes(1000)).digest()) + bomb
    tracemalloc.start()
    with pytest.raises(ValueError, match="1,000 bytes"):
        unpacked(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_a_dictionary_that_takes_too_much_memory_is_refused():
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 << 20}]
    stream = lzma.compress(b"x", filters=filters)
    with pytest.raises(ValueError, match=r"^damaged: Memory usage limit"):
        unpacked(HEADER.pack(MAGIC, 1, hashlib.sha256(b"x").digest()) + stream)


def test_the_caller_may_allow_less():
    assert unpacked(GOOD, len(CASES["sparse"])) == CASES["sparse"]
    with pytest.raises(ValueError, match=r"^declares .* at most 1,000 are unpacked$"):
        unpacked(GOOD, 1000)


def test_only_a_packed_name_is_unpacked(tmp_path):
    path = tmp_path / "model.xz"
    path.write_bytes(GOOD)
    with pytest.raises(ValueError, match=r"model.xz: the name of a packed file ends in .packed$"):
        unpack(path)


def test_the_verbs(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(bytes(1000))
    command = [sys.executable, "-m", "flows.cli"]
    done = subprocess.run([*command, "pack", str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{path}.packed: {(tmp_path / 'w.bin.packed').stat().st_size:,} of 1,000 bytes\n"
    path.unlink()
    done = subprocess.run([*command, "unpack", f"{path}.packed"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{path}: 1,000 bytes\n" and path.read_bytes() == bytes(1000)
    done = subprocess.run([*command, "unpack", f"{path}.packed"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"downsize: {path} exists; move it away first\n")
