"""What a statistician asks of a fitted model: coefficients, tests, intervals, influence.

Every function takes the fitted model, or a pipeline, search or target wrapper around it, and
returns a pandas table with documented columns.
"""
