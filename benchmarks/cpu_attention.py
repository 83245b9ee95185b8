"""Attention backward on the CPU in bfloat16: torch's fused kernel against plain matrix products.

python benchmarks/cpu_attention.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import typer
from torch.nn.functional import scaled_dot_product_attention

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs without an installation

from insightedit.modeling.devices import fast_cpu_attention

SHAPES = ((16, 4, 256, 256, 64), (16, 4, 256, 77, 64), (16, 4, 64, 64, 64), (16, 8, 256, 256, 40))  # B, H, N, M, D
REPEATS = 5


def milliseconds(given: list[torch.Tensor], context: Callable[[], AbstractContextManager[Any]]) -> float:
    """Forward and backward, the fastest of some, in processor time."""
    spent = []
    for _ in range(REPEATS):
        start = time.process_time()
        with context():
            out = scaled_dot_product_attention(*given)
            out.backward(torch.ones_like(out))
        spent.append(1000 * (time.process_time() - start))
    return min(spent)


def main() -> None:
    """Print a line for each shape."""
    torch.set_num_threads(1)
    plain = partial(fast_cpu_attention, torch.device("cpu"))
    for batch, heads, queries, keys, width in SHAPES:
        lengths = (queries, keys, keys)
        given = [torch.randn(batch, heads, n, width, dtype=torch.bfloat16, requires_grad=True) for n in lengths]
        fused, ours = (milliseconds(given, nullcontext), milliseconds(given, plain))
        typer.echo(
            f"batch {batch}, {heads} heads of {width}, {queries} queries, {keys} keys: fused {fused:.1f} ms, "
            f"plain {ours:.1f} ms, {fused / ours:.1f} times as fast"
        )


if __name__ == "__main__":
    main()
