"""Published data sets by the name that `data.sources` calls them; each function's docstring says what it reads."""

from __future__ import annotations

from collections.abc import Callable

from insightedit.config.schema import SourceConfig
from insightedit.data.editing_sets import instructpix2pix, magicbrush, reasonedit
from insightedit.data.segmentation_sets import coco_stuff, reasonseg, referring
from insightedit.data.sources import Source
from insightedit.data.text_sets import cc12m, llava_instruct

PUBLISHED: dict[str, Callable[[SourceConfig], Source]] = {
    "instructpix2pix": instructpix2pix,
    "magicbrush": magicbrush,
    "reasonedit": reasonedit,
    "llava_instruct": llava_instruct,
    "cc12m": cc12m,
    "coco_stuff": coco_stuff,
    "refcoco": referring,
    "grefcoco": referring,
    "reasonseg": reasonseg,
}
