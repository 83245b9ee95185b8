"""Memory and time of `insightedit edit` on a large picture: the peak of the whole process, measured by the system.

python benchmarks/large_pictures.py --side 13300           # 177 megapixels
python benchmarks/large_pictures.py --side 13300 --report
"""

from __future__ import annotations

import argparse
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

SAMPLE = Path(__file__).parents[1] / "docs/assets/sample.png"

logger = logging.getLogger(__name__)


def measure(side: int, report: bool) -> tuple[float, float]:
    """Edit a JPEG of side x side px in a process of its own.

    Args:
        side: pixels.
        report: whether an HTML report is written, too.

    Returns:
        (peak of the resident memory in GB, seconds with loading).
    """
    with tempfile.TemporaryDirectory() as folder, Image.open(SAMPLE) as sample:
        large = Path(folder) / "large.jpg"
        sample.convert("RGB").resize((side, side), Image.Resampling.BICUBIC).save(large, quality=90)
        more = ["--report", f"{folder}/report.html"] if report else []
        command = [sys.executable, "-m", "insightedit", "edit", str(large), "remove the fish"]
        started = time.perf_counter()
        subprocess.run([*command, "-o", f"{folder}/out.png", "--seed", "1", *more], check=True)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6), seconds


def main() -> None:
    """Measure once and say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=13_300)
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    peak, seconds = measure(given.side, given.report)
    logger.info("%.0f megapixels: %.1f GB, %.0f s", given.side**2 / 1e6, peak, seconds)


if __name__ == "__main__":
    main()
