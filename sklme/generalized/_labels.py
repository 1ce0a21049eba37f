"""Class labels: from y of any type to numbers 0, 1, ... and the weights of classes."""

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite


def read_labels(estimator, y):
    """y as one array of labels."""
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None"
        )
    labels = column_or_1d(y, warn=True)
    if not len(labels):
        raise ValueError("y has 0 sample(s) while a minimum of 1 is required")
    assert_all_finite(labels, input_name="y")
    check_classification_targets(labels)
    return labels


def ordered_categories(y):
    """The categories of an ordered categorical column in their order; None for anything else."""
    dtype = getattr(y, "dtype", None)
    ordered = getattr(dtype, "ordered", None) or type(dtype).__name__ == "Enum"
    return list(dtype.categories) if ordered else None


def learn_classes(estimator, labels, categories=None):
    """The classes that occur, sorted or in the order of the categories."""
    classes = np.unique(labels)
    if categories is not None:
        present = set(classes.tolist())
        classes = np.array([c for c in categories if c in present], dtype=classes.dtype)
    if len(classes) < 2:
        raise ValueError(
            f"{type(estimator).__name__} needs rows of at least two classes, but y has only one "
            f"class, {classes.tolist()[0]!r}"
        )
    return classes


def code_labels(labels, classes):
    """The position of each label in `classes`, as float."""
    order = np.argsort(classes)
    place = np.searchsorted(classes, labels, sorter=order)
    codes = order[np.minimum(place, len(classes) - 1)]
    unknown = np.flatnonzero(classes[codes] != labels)
    if len(unknown):
        label = labels.tolist()[unknown[0]]
        raise ValueError(
            f"y has the class {label!r} in row {unknown[0]}, which fit has not seen; its classes: "
            f"{', '.join(map(repr, classes.tolist()))}"
        )
    return codes.astype(float)


def class_factors(class_weight, classes, codes, weights):
    """What the weight of a row is multiplied by, for each class; None for nothing."""
    if class_weight is None:
        return None
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(codes.astype(int), weights, len(classes))
        return counts.sum() / (len(classes) * counts)
    if not isinstance(class_weight, dict):
        raise ValueError(
            f'class_weight is {class_weight!r}; it must be None, "balanced" or a dict of classes'
        )
    factors = compute_class_weight(class_weight, classes=classes, y=classes)
    if not (factors > 0).all():
        raise ValueError(f"class_weight is {class_weight!r}; weights of classes must be positive")
    return factors


def weigh_classes(weights, factors, codes):
    """Row weights with the factors of the classes."""
    if factors is None:
        return weights
    by_class = factors[codes.astype(int)]
    return by_class if weights is None else weights * by_class
