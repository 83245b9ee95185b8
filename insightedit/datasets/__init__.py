"""From data sources to training batches: records, sources, mixture, collation, loading."""
