"""Pictures of another editor: which file is the result of which sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from insightedit.datasets.notes import LOSSY, as_id, picture_size, picture_sizes, some
from insightedit.evaluation.benchmarks.base import Benchmark, BenchmarkSample
from insightedit.files import is_junk, natural
from insightedit.images.reading import is_picture_file


class ResultsError(ValueError):
    """A folder whose pictures do not pair with a benchmark's samples; `faults` are sentences for the user."""

    def __init__(self, folder: Path, benchmark: Benchmark, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"{folder} does not hold results for {benchmark.card.title}: {' '.join(self.faults)}")


@dataclass(frozen=True)
class Results:
    """Result files that were found and looked at."""

    folder: Path  # where they lie
    # sample id -> file, in the benchmark's order; lacks what is missing, where that is allowed
    paths: Mapping[str, Path]
    warnings: tuple[str, ...]  # what is odd but does not stop the measurement, as sentences


def pair_results(folder: str | Path, benchmark: Benchmark, *, partial: bool = False) -> Results:
    """Pair the pictures of a folder with the samples of a benchmark.

    A sample's result is the picture whose stem is its id, anywhere below the folder; else `CATEGORY/NAME.png` where
    category and name make the id (`1-Left-Right/001.png` for `1-Left-Right-001`); else the name that the benchmark's
    own scripts give (`extra["result_alias"]`, with anything after an underline: `0001_T7.5_I1.5.png`). With `partial`
    what is there is taken, and a warning tells what is missing, instead of refusing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ResultsError(folder, benchmark, ["There is no such folder: name the one with the edited pictures."])
    files = [path for path in folder.rglob("*") if is_picture_file(path)]
    files = sorted((path for path in files if not is_junk(path.relative_to(folder))), key=lambda p: natural(str(p)))
    faults: list[str] = []
    paths, doubled = _pair(files, benchmark.samples)
    for sample_id, several in doubled.items():
        listed = some(path.relative_to(folder).as_posix() for path in several)
        faults.append(f"{sample_id} has several results ({listed}): leave the one that is meant.")
    missing = [s.sample_id for s in benchmark.samples if s.sample_id not in paths and s.sample_id not in doubled]
    told = f"{len(missing)} of {len(benchmark)} results are missing, e.g. {some(f'{name}.png' for name in missing)}"
    warnings = []
    if missing and (not partial or not paths):
        faults.append(f"{told}: save each edited picture under its sample's id.")
    elif missing:
        warnings.append(f"{told}: they are not measured.")
    known = {*paths.values(), *(path for several in doubled.values() for path in several)}
    if extra := [path.relative_to(folder).as_posix() for path in files if path not in known]:
        warnings.append(f"{len(extra)} pictures belong to no sample and are left out: {some(extra)}.")
    sizes, bad = picture_sizes(paths.values(), lambda _: "results", lambda path: path.relative_to(folder).as_posix())
    faults += bad
    pairs = [(sample, paths[sample.sample_id]) for sample in benchmark if sample.sample_id in paths]
    own = {
        sample.sample_id
        for sample, path in pairs
        if any(other is not None and path.samefile(other) for other in (sample.source, sample.target))
    }
    if own:
        faults.append(
            f"{len(own)} results are the benchmark's own pictures ({some(sorted(own))}): name the editor's folder."
        )
    if faults:
        raise ResultsError(folder, benchmark, faults)
    odd = []
    for sample, path in pairs:
        like = sample.source or sample.target  # a result has the size of the latter where nothing is edited
        if like is not None and picture_size(like) != sizes[path]:
            odd.append(f"{sample.sample_id} {sizes[path][0]} x {sizes[path][1]}")
    if odd:
        warnings.append(
            f"{len(odd)} results have another size than their sources ({some(odd)}): the protocol resizes them."
        )
    if lossy := [path.name for path in paths.values() if path.suffix.lower() in LOSSY]:
        warnings.append(
            f"{len(lossy)} results are JPEG or WebP ({some(lossy)}): saving alone changes pixels (JPEG costs an L1 of "
            "about 0.01), so they do not compare with PNG."
        )
    return Results(folder, paths, tuple(warnings))


def _pair(files: Sequence[Path], samples: Sequence[BenchmarkSample]) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """(id -> file, id -> several files)."""
    by_stem: dict[str, list[Path]] = {}
    by_folder: dict[str, list[Path]] = {}
    by_alias: dict[str, list[Path]] = {}
    for path in files:
        by_stem.setdefault(path.stem, []).append(path)
        by_folder.setdefault(as_id(path.parent.name, path.stem), []).append(path)
        by_alias.setdefault(f"{path.parent.name}/{path.stem.partition('_')[0]}", []).append(path)
    paths, doubled = {}, {}
    for sample in samples:
        found = (
            by_stem.get(sample.sample_id)
            or by_folder.get(sample.sample_id)
            or by_alias.get(sample.extra.get("result_alias", ""))
            or []
        )
        if len(found) == 1:
            paths[sample.sample_id] = found[0]
        elif found:
            doubled[sample.sample_id] = found
    return paths, doubled
