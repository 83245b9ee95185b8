"""Memory and time of `insightedit edit` on a large picture: the peak of the whole process, measured by the system.

python benchmarks/large_pictures.py --side 3464            # 12 megapixels
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


def measure(side: int, report: bool, instruction: str) -> tuple[float, float, float]:
    """Edit a JPEG of side x side px in a process of its own.

    Args:
        side: pixels.
        report: whether an HTML report is written, too.
        instruction: what to do.

    Returns:
        (peak of the resident memory in GB, seconds with loading, seconds of all processors).
    """
    with tempfile.TemporaryDirectory() as folder, Image.open(SAMPLE) as sample:
        large = Path(folder) / "large.jpg"
        sample.convert("RGB").resize((side, side), Image.Resampling.BICUBIC).save(large, quality=90)
        more = ["--report", f"{folder}/report.html"] if report else []
        command = [sys.executable, "-m", "insightedit", "edit", str(large), instruction]
        started = time.perf_counter()
        subprocess.run([*command, "-o", f"{folder}/out.png", "--seed", "1", *more], check=True)
        seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6), seconds, used.ru_utime + used.ru_stime


def main() -> None:
    """Measure once and say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=13_300)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--instruction", default="remove the fish")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    peak, seconds, used = measure(given.side, given.report, given.instruction)
    logger.info("%.0f megapixels: %.2f GB, %.1f s, %.1f CPU s", given.side**2 / 1e6, peak, seconds, used)


if __name__ == "__main__":
    main()
