"""What a family of outcomes of your own is made of; see `Family`."""

from sklme._engine.family import Family, Outcome, Terms

__all__ = ["Family", "Outcome", "Terms"]
