"""Read one of the shipped tables and hand it over as scikit-learn's loaders do."""

from importlib.resources import files
from inspect import getdoc

import pandas as pd
from sklearn.utils import Bunch

DATA_MODULE = "sklme.datasets"

# Since 3.1 pandas reads every digit without being asked, and deprecates the question.
_ASKS = tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1)
_EXACT = {"float_precision": "round_trip"} if _ASKS else {}


def load_table(loader, filename, target, return_X_y, as_frame, *, text=(), no_features=()):
    """Do the work of a loader of one table, which describes its data in its docstring.

    Parameters
    ----------
    loader : callable
        The public function.
    filename, text : str, iterable of str
        As for `read_table`.
    target : str
        Column of ``target``.
    return_X_y, as_frame : bool
        As in the loaders.
    no_features : iterable of str
        Columns of ``frame`` that are neither features nor the target.

    Returns
    -------
    Bunch, or (data, target) if `return_X_y`
    """
    frame = read_table(filename, text)
    return as_bunch(
        frame,
        [name for name in frame.columns if name not in {target, *no_features}],
        target,
        filename=filename,
        descr=getdoc(loader),
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def read_table(filename, text=()):
    """Read a table of the package; numbers come back to the last bit.

    Parameters
    ----------
    filename : str
        A csv or tsv file in ``sklme/datasets/data``, gzipped if it ends in ``.gz``.
    text : iterable of str
        Columns of digits that are labels, to be read as text.

    Returns
    -------
    DataFrame of shape (n_samples, n_columns)
    """
    with (files(DATA_MODULE) / "data" / filename).open("rb") as stream:
        return pd.read_csv(
            stream,
            sep="\t" if ".tsv" in filename else ",",
            compression="gzip" if filename.endswith(".gz") else None,
            dtype=dict.fromkeys(text, str),
            **_EXACT,
        )


def as_bunch(frame, features, target, *, filename, descr, return_X_y, as_frame):
    """Split a table into features and target, in the form that the caller asked for.

    Parameters
    ----------
    frame : DataFrame
        The whole table, target included.
    features : list of str
        Columns of ``data``.
    target : str
        Column of ``target``; always float64.
    filename, descr : str
        The file and the text that describes it.
    return_X_y, as_frame : bool
        As in the loaders.

    Returns
    -------
    Bunch, or (data, target) if `return_X_y`
    """
    frame = frame.astype({target: float})
    data, y = frame[features].copy(), frame[target].copy()  # three tables of their own
    if not as_frame:
        data, y, frame = to_array(data), y.to_numpy(), None
    if return_X_y:
        return data, y
    return Bunch(
        data=data,
        target=y,
        frame=frame,
        feature_names=list(features),
        target_names=[target],
        DESCR=descr,
        filename=filename,
        data_module=DATA_MODULE,
    )


def to_array(data):
    """A numeric array if every column is numeric, else one of Python objects.

    Parameters
    ----------
    data : DataFrame of shape (n_samples, n_features)

    Returns
    -------
    ndarray of shape (n_samples, n_features)
    """
    numeric = all(pd.api.types.is_numeric_dtype(kind) for kind in data.dtypes)
    return data.to_numpy(dtype=float if numeric else object)
