"""Measuring editors where the truth is known: metrics, statistics, the scenes benchmark and its reports."""
