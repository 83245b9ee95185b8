# Only for plain diffusers, which runs code of a folder only where its user allows it;
# InsightEditPipeline.from_pretrained and `insightedit edit` never do.
from insightedit.interleaved_pipeline import InterleavedEditPipeline

__all__ = ["InterleavedEditPipeline"]
