"""What every benchmark shares: protocols, records, runs and their statistics."""
