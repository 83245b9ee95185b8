# DiffusionPipeline.from_pretrained(f, custom_pipeline="pipeline", trust_remote_code=True)
from insightedit.pipeline import InsightEditPipeline

__all__ = ["InsightEditPipeline"]
