"""Expressive instructions for an edit data set: what a language model says will change, summarised.

MGIE trains on such texts. A frozen LLaVA sees the picture and is asked what it will look like after the edit; its
answer is long, so the first two sentences are kept and a summariser shortens them.

    python -m data_recipes.expressive --data edits/ --kind parquet --out edits_expressive/

writes JSON lines with the columns source, target, instruction and expressive, which training reads:

    data: {sources: [{kind: jsonl, path: edits_expressive/}]}

Source: MGIE, section 3.1 and its released data notebook; the wordings are our own.
"""

from data_recipes.expressive.texts import cut_answer, question
from data_recipes.expressive.writer import Settings, write_answers, write_summaries

__all__ = ["Settings", "cut_answer", "question", "write_answers", "write_summaries"]
