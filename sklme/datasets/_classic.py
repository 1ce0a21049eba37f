"""Ten tables of the mixed-models literature, each a few lines of csv with its source.

Levels that are written as numbers stay numbers (``Subject`` 308), levels written as letters
are text, and the target is always float64. Column names are those of R, where most
readers have met them.
"""

from sklme.datasets._load import load_table


def load_sleepstudy(*, return_X_y=False, as_frame=True):
    """Load the sleep study: reaction times of 18 people over ten days of little sleep.

    The standard example of a random intercept and slope: people differ in how fast they
    are at the start and in how much every day of three hours in bed slows them down.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=True
        If True, the data are pandas objects. If False, they are arrays.

    Returns
    -------
    data : Bunch or (data, target)
        A Bunch with ``data`` (180, 2), ``target`` (180,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``Reaction``: mean reaction time of the day, ms. ``Days``: 0 to 9
    (days 0 and 1 were training, day 2 the baseline; sleep was cut afterwards). ``Subject``: 18
    people, numbered 308 to 372, ten rows each.

    **Provenance.** ``sleepstudy`` of the R package lme4 1.1-31; basis for shipping: facts
    behind the published study [1]_; only the numbers were taken.

    References
    ----------
    .. [1] G. Belenky et al., Patterns of performance degradation and restoration during
       sleep restriction and subsequent recovery: a sleep dose-response study, Journal of
       Sleep Research 12:1-12, 2003.

    Examples
    --------
    >>> from sklme.datasets import load_sleepstudy
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> list(X.columns), round(float(y.mean()), 3)
    (['Days', 'Subject'], 298.508)
    """
    return load_table(load_sleepstudy, "sleepstudy.csv", "Reaction", return_X_y, as_frame)


def load_dyestuff(*, return_X_y=False, as_frame=True):
    """Load the dyestuff yields: five preparations from each of six batches.

    The smallest honest example of a variance component: how much of the variation in yield
    is due to the batch of the raw product?

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
        A Bunch with ``data`` (30, 1), ``target`` (30,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``Yield``: grams of standard colour. ``Batch``: A to F, five rows each.

    **Provenance.** ``Dyestuff`` of the R package lme4 1.1-31; basis for shipping:
    facts printed in the source; only the numbers were taken.

    References
    ----------
    .. [1] O. L. Davies and P. L. Goldsmith (eds), Statistical Methods in Research and
       Production, 4th ed., Oliver and Boyd, 1972, section 6.4.

    Examples
    --------
    >>> from sklme.datasets import load_dyestuff
    >>> load_dyestuff().frame.groupby("Batch")["Yield"].mean().to_dict()
    {'A': 1505.0, 'B': 1528.0, 'C': 1564.0, 'D': 1498.0, 'E': 1600.0, 'F': 1470.0}
    """
    return load_table(load_dyestuff, "dyestuff.csv", "Yield", return_X_y, as_frame)


def load_dyestuff2(*, return_X_y=False, as_frame=True):
    """Load the constructed dyestuff yields, whose batches differ less than chance.

    The mean square between batches is smaller than the one within, so that the estimated
    variance of the batches is exactly zero: a proper result, and a test of any software.

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
        A Bunch with ``data`` (30, 1), ``target`` (30,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``Yield``: made-up yields, no unit. ``Batch``: A to F, five rows each.

    **Provenance.** ``Dyestuff2`` of the R package lme4 1.1-31; basis for shipping:
    facts printed in the source; only the numbers were taken.

    References
    ----------
    .. [1] G. E. P. Box and G. C. Tiao, Bayesian Inference in Statistical Analysis,
       Addison-Wesley, 1973, section 5.1.2.

    Examples
    --------
    >>> from sklme.datasets import load_dyestuff2
    >>> X, y = load_dyestuff2(return_X_y=True)
    >>> len(y), round(float(y.mean()), 4)
    (30, 5.6656)
    """
    return load_table(load_dyestuff2, "dyestuff2.csv", "Yield", return_X_y, as_frame)


def load_penicillin(*, return_X_y=False, as_frame=True):
    """Load the penicillin assays: six samples tested on each of 24 plates.

    Two crossed factors without replication: every sample meets every plate once.

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
        A Bunch with ``data`` (144, 2), ``target`` (144,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``diameter``: of the zone in which growth was inhibited, mm. ``plate``: a
    to x, six rows each. ``sample``: A to F, 24 rows each.

    **Provenance.** ``Penicillin`` of the R package lme4 1.1-31; basis for shipping:
    facts printed in the source; only the numbers were taken.

    References
    ----------
    .. [1] O. L. Davies and P. L. Goldsmith (eds), Statistical Methods in Research and
       Production, 4th ed., Oliver and Boyd, 1972, section 6.6.

    Examples
    --------
    >>> from sklme.datasets import load_penicillin
    >>> load_penicillin().data.nunique().to_dict()
    {'plate': 24, 'sample': 6}
    """
    return load_table(load_penicillin, "penicillin.csv", "diameter", return_X_y, as_frame)


def load_pastes(*, return_X_y=False, as_frame=True):
    """Load the paste strengths: two assays of three casks in each of ten batches.

    Nested factors, with the classic trap: the casks are called a, b, c in every batch, so
    ``cask`` alone is not a grouping factor; ``("batch", "cask")`` or ``sample`` is.

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
        A Bunch with ``data`` (60, 3), ``target`` (60,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``strength``: of the paste, in the unit of the assay (the source
    names none here). ``batch``: A to J. ``cask``: a to c within the batch. ``sample``: both
    together, "A:a" to "J:c", two rows each.

    **Provenance.** ``Pastes`` of the R package lme4 1.1-31; basis for shipping:
    facts printed in the source; only the numbers were taken.

    References
    ----------
    .. [1] O. L. Davies and P. L. Goldsmith (eds), Statistical Methods in Research and
       Production, 4th ed., Oliver and Boyd, 1972, section 6.5.

    Examples
    --------
    >>> from sklme.datasets import load_pastes
    >>> load_pastes().data.nunique().to_dict()
    {'batch': 10, 'cask': 3, 'sample': 30}
    """
    return load_table(load_pastes, "pastes.csv", "strength", return_X_y, as_frame)


def load_orthodont(*, return_X_y=False, as_frame=True):
    """Load the growth of the jaw: 27 children measured at four ages.

    Balanced longitudinal data with a covariate of the child, hence the standard example of a
    cross-level interaction (do boys grow faster?) and of unequal residual variances.

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
        A Bunch with ``data`` (108, 3), ``target`` (108,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``distance``: from the pituitary to the pterygomaxillary fissure, on an
    x-ray image, mm. ``age``: 8, 10, 12 or 14 years. ``Subject``: M01 to M16 and F01 to
    F11, four rows each. ``Sex``: Male or Female.

    **Provenance.** ``Orthodont`` of the R package nlme 3.1-162; basis for shipping:
    facts printed in the source; only the numbers were taken.

    References
    ----------
    .. [1] R. F. Potthoff and S. N. Roy, A generalized multivariate analysis of variance
       model useful especially for growth curve problems, Biometrika 51:313-326, 1964.
    .. [2] J. C. Pinheiro and D. M. Bates, Mixed-Effects Models in S and S-PLUS, Springer,
       2000, appendix A.17.

    Examples
    --------
    >>> from sklme.datasets import load_orthodont
    >>> load_orthodont().frame.groupby("Sex")["distance"].mean().round(2).to_dict()
    {'Female': 22.65, 'Male': 24.97}
    """
    return load_table(load_orthodont, "orthodont.csv", "distance", return_X_y, as_frame)


def load_cake(*, return_X_y=False, as_frame=True):
    """Load the chocolate cakes: three recipes, six temperatures, 15 replicates.

    A split plot: a batch of dough is one recipe in one replicate, and its six cakes went into
    the oven at six temperatures. Replicates are numbered 1 to 15 in every recipe, so that
    the batch of dough is ``("recipe", "replicate")``.

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
        A Bunch with ``data`` (270, 4), ``target`` (270,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``angle``: at which the cake broke when it was bent, degrees.
    ``replicate``: 1 to 15. ``recipe``: A, B or C. ``temperature``: of the oven, as a
    label ("175" to "225", text, for use as a category). ``temp``: the same as a number, in
    degrees (lme4's help says Fahrenheit).

    **Provenance.** ``cake`` of the R package lme4 1.1-31; basis for shipping:
    facts printed in the source; only the numbers were taken.

    References
    ----------
    .. [1] F. E. Cook, Chocolate cake, I. Optimum baking temperature, Master's thesis, Iowa
       State College, 1938.
    .. [2] W. G. Cochran and G. M. Cox, Experimental Designs, 2nd ed., Wiley, 1957, p. 300.

    Examples
    --------
    >>> from sklme.datasets import load_cake
    >>> load_cake().frame.groupby("recipe")["angle"].mean().round(2).to_dict()
    {'A': 33.12, 'B': 31.64, 'C': 31.6}
    """
    return load_table(load_cake, "cake.csv", "angle", return_X_y, as_frame, text=("temperature",))


def load_machines(*, return_X_y=False, as_frame=True):
    """Load the machine scores: six workers on each of three machines, three times.

    Replicated crossed data in which workers differ in what they make of a machine, so that
    an interaction of worker and machine is needed beside the worker.

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
        A Bunch with ``data`` (54, 2), ``target`` (54,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``score``: of productivity, from number and quality of the parts made,
    points. ``Worker``: 1 to 6. ``Machine``: A, B or C.

    **Provenance.** ``Machines`` of the R package nlme 3.1-162; basis for shipping:
    facts printed in the source; only the numbers were taken.

    References
    ----------
    .. [1] G. A. Milliken and D. E. Johnson, Analysis of Messy Data, volume I: Designed
       Experiments, Chapman and Hall, 1992, p. 285.
    .. [2] J. C. Pinheiro and D. M. Bates, Mixed-Effects Models in S and S-PLUS, Springer,
       2000, appendix A.14.

    Examples
    --------
    >>> from sklme.datasets import load_machines
    >>> load_machines().frame.groupby("Machine")["score"].mean().round(2).to_dict()
    {'A': 52.36, 'B': 60.32, 'C': 66.27}
    """
    return load_table(load_machines, "machines.csv", "score", return_X_y, as_frame)


def load_insteval(*, return_X_y=False, as_frame=True):
    """Load the lecture evaluations: 2972 students rate 1128 lecturers.

    Large and partly crossed: every student rates a few lecturers, every lecturer is rated by some
    students, and no pair occurs twice. The usual measure of an algorithm for crossed factors.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=True
        If True, the data are pandas objects. If False, they are arrays.

    Returns
    -------
    data : Bunch or (data, target)
        A Bunch with ``data`` (73421, 6), ``target`` (73421,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``y``: rating, 1 (poor) to 5 (very good). ``s``: student, 1 to 2972.
    ``d``: lecturer, 1128 numbers between 1 and 2160. ``studage``: semesters that the student has
    been enrolled, 2, 4, 6 or 8. ``lectage``: how many semesters ago the lecture was, 1 to
    6. ``service``: 1 if the lecture was held for another department than the lecturer's, else 0.
    ``dept``: code of the department, 14 numbers between 1 and 15. All are integers; 344 kB
    gzipped.

    **Provenance.** ``InstEval`` of the R package lme4 1.1-31. Collected at ETH Zurich,
    anonymised and simplified by the authors of lme4 for publication; basis for shipping: facts
    made public by those who collected them. Only the numbers were taken. The MIT-licensed Julia
    package MixedModelsDatasets distributes these ratings too.

    References
    ----------
    .. [1] D. Bates, M. Maechler, B. Bolker and S. Walker, Fitting linear mixed-effects
       models using lme4, Journal of Statistical Software 67(1), 2015.

    Examples
    --------
    >>> from sklme.datasets import load_insteval
    >>> ratings = load_insteval()
    >>> ratings.data.shape, ratings.data[["s", "d"]].nunique().to_dict()
    ((73421, 6), {'s': 2972, 'd': 1128})
    """
    return load_table(load_insteval, "insteval.csv.gz", "y", return_X_y, as_frame)


def load_chem97(*, return_X_y=False, as_frame=True):
    """Load the chemistry grades of 1997: pupils in schools in education authorities.

    Large nested data: 31022 pupils in 2410 schools in 131 local education authorities in
    Britain, with the grade of an earlier examination as the covariate.

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
        A Bunch with ``data`` (31022, 7), ``target`` (31022,), ``frame`` (None for arrays),
        ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and ``data_module``.

    Notes
    -----
    **Columns.** Target ``score``: points of the A-level examination in chemistry, 0, 2, 4, 6, 8 or
    10. ``lea``: local education authority, 1 to 131. ``school``: 1 to 2410, unique across
    authorities. ``student``: 1 to 31022, one row each. ``gender``: M or F. ``age``: months
    from 18.5 years, -6 to 5. ``gcsescore``: mean score of the earlier GCSE examinations, 0 to 8
    points. ``gcsecnt``: the same minus its mean. 210 kB gzipped. The target takes six values
    only, so a normal model is an illustration.

    **Provenance.** ``Chem97`` of the R package mlmRev 1.0-8, which took it from the teaching
    data of the Centre for Multilevel Modelling, University of Bristol. Basis for shipping: facts
    behind the published analysis [1]_, anonymous and openly distributed since; only the
    numbers were taken.

    References
    ----------
    .. [1] A. Fielding, M. Yang and H. Goldstein, Multilevel ordinal models for examination
       grades, Statistical Modelling 3:127-153, 2003.

    Examples
    --------
    >>> from sklme.datasets import load_chem97
    >>> load_chem97().data.nunique()[["lea", "school", "student"]].to_dict()
    {'lea': 131, 'school': 2410, 'student': 31022}
    """
    return load_table(load_chem97, "chem97.csv.gz", "score", return_X_y, as_frame)
