"""Bridging: from the MLLM's states to the generator's conditions."""

from __future__ import annotations

from insightedit.bridging.bim import BIM
from insightedit.bridging.bridge import EditBridge
from insightedit.bridging.edit_head import EditHead
from insightedit.bridging.iaa import IAA
from insightedit.bridging.qformer import QFormer, spread

__all__ = ["BIM", "IAA", "EditBridge", "EditHead", "QFormer", "spread"]
