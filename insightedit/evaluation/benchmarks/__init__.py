"""Benchmarks of the four papers and of their neighbours, each read in its published layout."""
