"""Published sets of other things than editing pairs, by the name that `data.sources` calls them."""

from __future__ import annotations

from collections.abc import Callable

from insightedit.config.schema import SourceConfig
from insightedit.datasets.segmentation_sets import coco_stuff, reasonseg, referring
from insightedit.datasets.text_sets import cc12m, llava_instruct
from insightedit.datasets.varied import Varied

PUBLISHED: dict[str, Callable[[SourceConfig], Varied]] = {
    "llava_instruct": llava_instruct,
    "cc12m": cc12m,
    "coco_stuff": coco_stuff,
    "refcoco": referring,
    "grefcoco": referring,
    "reasonseg": reasonseg,
}
