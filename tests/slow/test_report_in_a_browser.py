"""The report in headless Chromium: a point is hovered, the theme switched, and nothing complains."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks" / "report"))
from conftest import build_run

from tasks.report.html import render_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# what a hand would do, written down where --dump-dom shows it
HAND = """<script>addEventListener("load", () => {
  const root = document.documentElement, tip = document.getElementById("tip");
  document.querySelector(".mark[data-tip]").dispatchEvent(
    new PointerEvent("pointerover", {bubbles: true, clientX: 200, clientY: 200}));
  root.dataset.hovered = tip.hidden ? "nothing" : tip.textContent.split("\\n")[0];
  const shade = () => getComputedStyle(document.body).backgroundColor, before = shade();
  document.getElementById("theme").click();
  root.dataset.switched = `${before !== shade()}`;
  root.dataset.wide = `${root.scrollWidth > root.clientWidth}`;
});</script>"""


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_point_is_hovered_the_theme_switched_and_the_console_silent(tmp_path, width):
    page = tmp_path / "report.html"
    page.write_text(render_report(*build_run([str(digit) for digit in range(10)])) + HAND, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--window-size={width},900"]
    start = time.perf_counter()
    found = subprocess.run(
        [BROWSER, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    seconds = time.perf_counter() - start
    head = found.stdout[: found.stdout.index("<head")]
    assert 'data-hovered="teacher"' in head and 'data-switched="true"' in head and 'data-wide="false"' in head
    assert "CONSOLE" not in found.stderr and seconds < 60
