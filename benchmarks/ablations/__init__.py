"""Ablations: the papers' comparisons of one part against its absence, trained and measured on scenes.

python -m benchmarks.ablations --dry-run                 # what would be trained, and how long it takes
python -m benchmarks.ablations --out runs/ablations      # the core studies; the same command goes on
python -m benchmarks.ablations --studies bim_kinds,wording --seeds 3 --steps 2000 --count 600
python -m benchmarks.ablations --table --write docs/ablations.md

A *study* is a frozen list of rows (`studies`); a *run* is one row with one seed: trained by the stages themselves,
exported, and measured by `insightedit.evaluation.scenes.benchmark.evaluate` (`runner`). All rows of a study start
from the same weights, take the same number of steps and, where their data are the same, see the same batches in
the same order.

Start weights (`starts`). Rows of the recipe insightedit start from two things: the language model and the text branch
of a finished model (the embedded default), and the editing UNet, autoencoder and CLIP of the miniature foundation.
That UNet has never seen BIM's v' nor an image prompt, and BIM and IAA begin anew in every row that has them, so no row
has to unlearn a part that it lacks; taking parts *away* from the finished model would have favoured the row that keeps
them. Rows of the recipe mige start from the miniature foundation alone, whose transformer has never read a picture
within a text. Both starts are far from what the papers start from, and the runs are short: a study says what a part
brings within this budget, at this size, on scenes.
"""
