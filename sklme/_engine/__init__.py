"""The random-effects engine: plain arrays in, plain records out.

Symbols are those of Bates, Maechler, Bolker and Walker (2015), "Fitting linear
mixed-effects models using lme4", J. Stat. Softw. 67(1): theta, Lambda, beta, u, b.
"""
