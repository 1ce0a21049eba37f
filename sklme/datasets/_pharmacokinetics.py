"""Four tables of repeated measurements that nonlinear mixed models are usually shown on.

Column names are those of R. Where subjects got several doses, these are a table of their own
beside the measurements, as ``Dosing.from_table`` reads it.
"""

from inspect import getdoc

from sklme.datasets._load import as_bunch, load_table, read_table


def load_theophylline(*, return_X_y=False, as_frame=True):
    """Load the theophylline concentrations: one oral dose, twelve people, 25 hours.

    The standard example of a nonlinear mixed model: absorption and elimination are both seen, and
    people differ in how fast they absorb and eliminate.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=True
        If True, the data are pandas objects. If False, they are arrays.

    Returns
    -------
    data : Bunch or (data, target)
        A Bunch with ``data`` (132, 4), ``target`` (132,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``conc``: concentration in serum, mg/l. ``Subject``: 1 to 12, eleven rows
    each. ``Wt``: weight, kg. ``Dose``: given at time 0 by mouth, mg/kg. ``Time``: hours since the
    dose.

    **Provenance.** ``Theoph`` of R's package datasets 4.2.2; basis for shipping: facts printed in
    the sources; only the numbers were taken.

    References
    ----------
    .. [1] A. J. Boeckmann, L. B. Sheiner and S. L. Beal, NONMEM Users Guide, part V, NONMEM
       Project Group, University of California, San Francisco, 1994.
    .. [2] M. Davidian and D. M. Giltinan, Nonlinear Models for Repeated Measurement Data,
       Chapman and Hall, 1995, section 5.5.

    Examples
    --------
    >>> from sklme.datasets import load_theophylline
    >>> X, y = load_theophylline(return_X_y=True)
    >>> list(X.columns), round(float(y.max()), 1)
    (['Subject', 'Wt', 'Dose', 'Time'], 11.4)
    """
    return load_table(load_theophylline, "theophylline.csv", "conc", return_X_y, as_frame)


def load_orange(*, return_X_y=False, as_frame=True):
    """Load the growth of orange trees: five trunks measured seven times.

    The smallest example of a growth curve that levels off: a logistic curve with an asymptote
    of each tree.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=True
        If True, the data are pandas objects. If False, they are arrays.

    Returns
    -------
    data : Bunch or (data, target)
        A Bunch with ``data`` (35, 2), ``target`` (35,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``circumference``: of the trunk, mm. ``Tree``: 1 to 5, seven rows each.
    ``age``: days since 31 December 1968, the same seven for all trees.

    **Provenance.** ``Orange`` of R's package datasets 4.2.2; basis for shipping: facts printed in
    the sources; only the numbers were taken.

    References
    ----------
    .. [1] N. R. Draper and H. Smith, Applied Regression Analysis, 3rd ed., Wiley, 1998, exercise
       24.N.
    .. [2] J. C. Pinheiro and D. M. Bates, Mixed-Effects Models in S and S-PLUS, Springer, 2000.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> load_orange().frame.groupby("age")["circumference"].mean().iloc[[0, -1]].tolist()
    [31.0, 175.8]
    """
    return load_table(load_orange, "orange.csv", "circumference", return_X_y, as_frame)


def load_indomethacin(*, return_X_y=False, as_frame=True):
    """Load the indomethacin concentrations: a rapid injection, six people, eight hours.

    An example of two phases of decay: distribution first, then elimination.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=True
        If True, the data are pandas objects. If False, they are arrays.

    Returns
    -------
    data : Bunch or (data, target)
        A Bunch with ``data`` (66, 2), ``target`` (66,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``conc``: concentration in plasma, mg/l. ``Subject``: 1 to 6, eleven rows
    each. ``time``: hours since the injection, the same eleven for all.

    **Provenance.** ``Indometh`` of R's package datasets 4.2.2; basis for shipping: facts behind
    the published study [1]_; only the numbers were taken.

    References
    ----------
    .. [1] K. C. Kwan, G. O. Breault, E. R. Umbenhauer, F. G. McMahon and D. E. Duggan, Kinetics of
       indomethacin absorption, elimination, and enterohepatic circulation in man, Journal of
       Pharmacokinetics and Biopharmaceutics 4:255-280, 1976.
    .. [2] M. Davidian and D. M. Giltinan, Nonlinear Models for Repeated Measurement Data,
       Chapman and Hall, 1995, section 5.2.4.

    Examples
    --------
    >>> from sklme.datasets import load_indomethacin
    >>> load_indomethacin().frame.groupby("time")["conc"].mean().iloc[[0, -1]].round(3).tolist()
    [2.077, 0.072]
    """
    return load_table(load_indomethacin, "indomethacin.csv", "conc", return_X_y, as_frame)


def load_phenobarbital(*, return_X_y=False, as_frame=True):
    """Load the phenobarbital concentrations of newborns: a few samples of each, many doses.

    The standard example of routine data: 59 infants with one to six samples after doses that
    were given as they were needed. Weight and the Apgar score are the covariates.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=True
        If True, the data are pandas objects. If False, they are arrays, ``data`` of dtype
        object because it holds text.

    Returns
    -------
    data : Bunch or (data, target)
        A Bunch with ``data`` (155, 5), ``target`` (155,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename``, ``data_module`` and
        ``doses``: a table (a dict of arrays) of 589 rows with columns ``subject``, ``time`` and
        ``amount``, as ``Dosing.from_table`` reads it.

    Notes
    -----
    **Columns.** Target ``conc``: concentration in serum, mg/l. ``Subject``: 1 to 59. ``Wt``:
    weight at birth, kg. ``Apgar``: score five minutes after birth, 1 to 10. ``ApgarInd``: "< 5"
    or ">= 5". ``time``: hours after birth. In ``doses``, ``amount`` is in mg.

    **Provenance.** ``Phenobarb`` of the R package nlme 3.1-162; basis for shipping: facts behind
    the published study [1]_; only the numbers were taken.

    References
    ----------
    .. [1] T. H. Grasela and S. M. Donn, Neonatal population pharmacokinetics of phenobarbital
       derived from routine clinical data, Developmental Pharmacology and Therapeutics 8:374-383,
       1985.
    .. [2] M. Davidian and D. M. Giltinan, Nonlinear Models for Repeated Measurement Data,
       Chapman and Hall, 1995, section 6.6.

    Examples
    --------
    >>> from sklme.datasets import load_phenobarbital
    >>> infants = load_phenobarbital()
    >>> infants.data.shape, infants.doses.shape, infants.data["Subject"].nunique()
    ((155, 5), (589, 3), 59)
    """
    filename = "phenobarbital.csv"
    events = read_table(filename)
    doses = events.loc[events["dose"].notna(), ["Subject", "time", "dose"]]
    doses = doses.set_axis(["subject", "time", "amount"], axis=1).reset_index(drop=True)
    samples = events.loc[events["conc"].notna()].drop(columns="dose").reset_index(drop=True)
    found = as_bunch(
        samples,
        [name for name in samples.columns if name != "conc"],
        "conc",
        filename=filename,
        descr=getdoc(load_phenobarbital),
        return_X_y=return_X_y,
        as_frame=as_frame,
    )
    if not return_X_y:
        found.doses = doses if as_frame else {name: doses[name].to_numpy() for name in doses}
    return found
