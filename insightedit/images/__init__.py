"""Pictures in and out: one reader, one way to save, sheets of pairs."""
