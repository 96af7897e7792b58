"""How large the report of the last run is, and how long headless Chromium takes to open it.

python benchmarks/report.py [reports/report.html]
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import fashion

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
REPEATS: Final = 5
# from the start of the navigation to the end of the load event, written where --dump-dom shows it
STOPWATCH: Final = """<script>addEventListener("load", () => setTimeout(() => {
  document.documentElement.dataset.ms = performance.getEntriesByType("navigation")[0].loadEventEnd;
}));</script>"""


def open_seconds(browser: str, page: Path) -> float:
    """Once, in a fresh profile."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--timeout=5000", "--dump-dom"]
    found = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    timed = re.search(r'data-ms="([\d.]+)"', found.stdout)
    if not timed:
        sys.exit(f"{page}: {browser} did not finish loading it")
    return float(timed[1]) / 1000


def main() -> None:
    """The headline is the median."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    report = Path(sys.argv[1] if len(sys.argv) > 1 else "reports/report.html")
    if browser is None or not report.is_file():
        sys.exit(f"needs {report} (downsize run) and one of {', '.join(BROWSERS)}")
    with TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(report.read_text(encoding="utf-8") + STOPWATCH, encoding="utf-8")
        seconds = [open_seconds(browser, page) for _ in range(REPEATS)]
    rows = [{"repeat": place, "open_seconds": found} for place, found in enumerate(seconds)]
    headline = {"bytes": report.stat().st_size, "open_seconds": median(seconds)}
    print(headline)
    fashion.keep("report", [], rows, headline)


if __name__ == "__main__":
    main()
