import pytest

from tasks.evaluate.environment import environment, processor

X86 = (
    "processor: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_vnni\n\nmodel name\t: other\nflags: fpu\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm bf16\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(X86, "AMD EPYC (avx2, avx512f, avx512_vnni)"), ("model name: old\nflags: fpu sse\n", "old")],
    ids=["x86", "nothing of note"],
)
def test_the_processor_is_named_with_the_instructions_that_figures_depend_on(tmp_path, text, expected):
    (tmp_path / "cpuinfo").write_text(text)
    assert processor(tmp_path / "cpuinfo") == expected


def test_a_processor_without_a_name_is_called_by_its_kind(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    (tmp_path / "cpuinfo").write_text(ARM)
    assert processor(tmp_path / "cpuinfo") == "aarch64 (asimddp, i8mm, bf16)"
    assert processor(tmp_path / "none") == "aarch64"
    assert environment()["cpu"] == processor()
