"""Pair doctor: what is wrong with a set of editing pairs, before hours of training are spent on it."""
