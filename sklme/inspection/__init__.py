"""Pictures of fitted models, as scikit-learn's Displays."""
