"""Five tables whose target is a count, a yes or no, or a grade; with their sources.

Column names are those of R, where most readers have met them. Levels that are written as numbers
stay numbers, levels written as letters are text, and the target is always float64.
"""

from sklme.datasets._load import load_table


def load_cbpp(*, return_X_y=False, as_frame=True):
    """Load the lung disease of cattle: new cases in 15 herds over four quarters.

    Counts out of a known number of animals, the standard example of a binomial model with a
    random intercept. The number of trials, ``size``, stays in ``data``.


    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=True
        If True, the data are pandas objects. If False, they are arrays.

    Returns
    -------
    data : Bunch or (data, target)
        A Bunch with ``data`` (56, 3), ``target`` (56,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``incidence``: animals newly infected in the quarter, as shown by blood
    tests (contagious bovine pleuropneumonia). ``herd``: 1 to 15, four rows each but for
    herd 2 with three and herd 8 with one. ``size``: animals at the start of the quarter, hence the
    number of trials. ``period``: quarter, 1 to 4; a category.

    **Provenance.** ``cbpp`` of the R package lme4 1.1-31; basis for shipping: facts behind the
    published study [1]_; only the numbers were taken.

    References
    ----------
    .. [1] M. Lesnoff et al., Within-herd spread of contagious bovine pleuropneumonia in
       Ethiopian highlands, Preventive Veterinary Medicine 64:27-40, 2004.

    Examples
    --------
    >>> from sklme.datasets import load_cbpp
    >>> table = load_cbpp().frame.groupby("period")[["incidence", "size"]].sum()
    >>> (table["incidence"] / table["size"]).round(3).to_dict()
    {1: 0.219, 2: 0.08, 3: 0.071, 4: 0.045}
    """
    return load_table(load_cbpp, "cbpp.csv", "incidence", return_X_y, as_frame)


def load_verbagg(*, return_X_y=False, as_frame=True):
    """Load the verbal aggression survey: 316 people answer 24 questions with yes or no.

    The standard example of item response models: people and items are crossed, and the items have
    a design of their own (what one would do, whose fault it was, wanting or doing).


    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=True
        If True, the data are pandas objects. If False, they are arrays, ``data`` of
        dtype object because it holds text.

    Returns
    -------
    data : Bunch or (data, target)
        A Bunch with ``data`` (7584, 7), ``target`` (7584,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``y``: 1 if the answer was "yes" or "perhaps", 0 for "no" (R's ``r2``).
    ``Anger``: trait anger of the person, score of a questionnaire, 11 to 39 points. ``Gender``: M
    or F. ``btype``: behaviour, curse, scold or shout. ``situ``: who is to blame, other or self.
    ``mode``: want or do. ``id``: person, 1 to 316, 24 rows each. ``item``: the question, 24 names
    such as "S1WantCurse" (situation, mode, behaviour), spelt as in R. 29 kB gzipped.

    **Provenance.** ``VerbAgg`` of the R package lme4 1.1-31, collected by K. Vansteelandt and
    used throughout [1]_; basis for shipping: facts behind the published study, anonymous and
    openly distributed since; only the numbers and names were taken.

    References
    ----------
    .. [1] P. De Boeck and M. Wilson, Explanatory Item Response Models: A Generalized Linear and
       Nonlinear Approach, Springer, 2004.

    Examples
    --------
    >>> from sklme.datasets import load_verbagg
    >>> load_verbagg().frame.groupby("btype")["y"].mean().round(3).to_dict()
    {'curse': 0.655, 'scold': 0.47, 'shout': 0.303}
    """
    return load_table(load_verbagg, "verbagg.csv.gz", "y", return_X_y, as_frame)


def load_grouseticks(*, return_X_y=False, as_frame=True):
    """Load the ticks on red grouse: counts on the heads of 403 chicks in 118 broods.

    Counts that vary more than a Poisson model allows, nested in broods and places. A random
    intercept for every row (``INDEX``) takes up the excess, or a negative binomial family does.


    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=True
        If True, the data are pandas objects. If False, they are arrays.

    Returns
    -------
    data : Bunch or (data, target)
        A Bunch with ``data`` (403, 6), ``target`` (403,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``TICKS``: ticks on the head of the chick, 0 to 85. ``INDEX``: chick, 1 to
    403, one row each. ``BROOD``: 118 numbers from 501 on. ``HEIGHT``: above sea level, 403 to
    533 m. ``YEAR``: 95, 96 or 97 of the last century; a category. ``LOCATION``: code of the place,
    1 to 63; every brood has one. ``cHEIGHT``: ``HEIGHT`` minus its mean, m.

    **Provenance.** ``grouseticks`` of the R package lme4 1.1-31, given to it by R. Moss and
    D. Elston; basis for shipping: facts behind the published study [1]_; only the numbers
    were taken.

    References
    ----------
    .. [1] D. A. Elston et al., Analysis of aggregation, a worked example: numbers of ticks on red
       grouse chicks, Parasitology 122:563-569, 2001.

    Examples
    --------
    >>> from sklme.datasets import load_grouseticks
    >>> load_grouseticks().frame.groupby("YEAR")["TICKS"].mean().round(2).to_dict()
    {95: 5.95, 96: 11.1, 97: 1.15}
    """
    return load_table(load_grouseticks, "grouseticks.csv", "TICKS", return_X_y, as_frame)


def load_salamanders(*, return_X_y=False, as_frame=True):
    """Load the salamanders in streams: seven kinds counted four times at each of 23 sites.

    Counts of which three in five are zero, at sites with and without mining above them: an
    example for negative binomial and zero-inflated models.


    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=True
        If True, the data are pandas objects. If False, they are arrays, ``data`` of
        dtype object because it holds text.

    Returns
    -------
    data : Bunch or (data, target)
        A Bunch with ``data`` (644, 8), ``target`` (644,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``count``: animals seen. ``site``: 23 names, "R-1" to "R-12" and "VF-1" to
    "VF-11", 28 rows each. ``mined``: yes (the VF sites, below valleys filled by mountaintop
    removal mining) or no. ``cover``: objects to hide under. ``sample``: visit, 1 to 4. ``DOP``:
    days since rain. ``Wtemp``: temperature of the water. ``DOY``: day of the year; these four
    numbers are standardised, without a unit. ``spp``: kind; GP Gyrinophilus porphyriticus, PR
    Pseudotriton ruber, DM Desmognathus monticola, DF Desmognathus fuscus, DES-L larvae of
    Desmognathus, EC-A and EC-L adults and larvae of Eurycea cirrigera. 4 kB gzipped.

    **Provenance.** ``Salamanders`` of the R package glmmTMB 1.1.5, from the data of [1]_, which
    their authors deposited at Dryad under CC0, doi 10.5061/dryad.5m8f6; only the numbers
    and names were taken.

    References
    ----------
    .. [1] S. J. Price, B. L. Muncy, S. J. Bonner, A. N. Drayer and C. D. Barton, Effects of
       mountaintop removal mining and valley filling on the occupancy and abundance of stream
       salamanders, Journal of Applied Ecology 53:459-468, 2016.

    Examples
    --------
    >>> from sklme.datasets import load_salamanders
    >>> load_salamanders().frame.groupby("mined")["count"].mean().round(2).to_dict()
    {'no': 2.26, 'yes': 0.3}
    """
    return load_table(load_salamanders, "salamanders.csv.gz", "count", return_X_y, as_frame)


def load_wine_bitterness(*, return_X_y=False, as_frame=True):
    """Load the bitterness of wine: nine judges grade eight bottles from 1 to 5.

    The standard example of a cumulative (ordinal) model with a random intercept. It has nothing
    to do with the chemistry of wines in scikit-learn's ``load_wine``.


    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=True
        If True, the data are pandas objects. If False, they are arrays, ``data`` of
        dtype object because it holds text.

    Returns
    -------
    data : Bunch or (data, target)
        A Bunch with ``data`` (72, 4), ``target`` (72,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``rating``: grade of bitterness, 1 (least) to 5 (most). ``temp``: of the
    grapes when they were crushed, cold or warm. ``contact``: of the juice with the skins, no or
    yes. ``bottle``: 1 to 8, two for each treatment. ``judge``: 1 to 9, eight rows each. ``frame``
    holds ``response`` too: the mark on a scale from 0 to 100 points that was cut at 20, 40, 60
    and 80 to give the grade. It is no feature, since the target is made of it.

    **Provenance.** ``wine`` of the R package ordinal 2022.11-16; basis for shipping: facts
    printed in the source [1]_; only the numbers were taken.

    References
    ----------
    .. [1] J. H. Randall, The analysis of sensory data by generalized linear model, Biometrical
       Journal 31:781-793, 1989.

    Examples
    --------
    >>> from sklme.datasets import load_wine_bitterness
    >>> X, y = load_wine_bitterness(return_X_y=True)
    >>> y.groupby([X["temp"], X["contact"]]).mean().round(2).to_dict()
    {('cold', 'no'): 2.06, ('cold', 'yes'): 2.61, ('warm', 'no'): 3.11, ('warm', 'yes'): 3.89}
    """
    return load_table(
        load_wine_bitterness,
        "wine_bitterness.csv",
        "rating",
        return_X_y,
        as_frame,
        no_features=("response",),
    )
