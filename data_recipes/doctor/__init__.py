"""Pair doctor: what is wrong with a set of editing pairs, before hours of training are spent on it.

`insightedit doctor data PATH` reads everything once, changes nothing, names each fault and says what to do.
"""
