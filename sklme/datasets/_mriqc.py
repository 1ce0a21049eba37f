"""Image quality of brain scans from many hospitals, judged by people and by 68 metrics."""

from inspect import getdoc

from sklme.datasets._load import as_bunch, read_table

SUBSETS = ("abide", "ds030")
NOT_FEATURES = ("subject_id", "rater_1", "rater_2", "rater_3", "has_ghost", "rating")


def load_mriqc(*, subset="abide", return_X_y=False, as_frame=True):
    """Load the MRIQC table: quality ratings and image metrics of brain scans by site.

    Each row is one T1-weighted magnetic resonance scan of a head. Experts looked at it
    and rated it; software computed 68 image-quality metrics from it. The question of the
    original study is still the good one: does a model of the rating hold at a site that it
    has not seen?

    Parameters
    ----------
    subset : {"abide", "ds030"}, default="abide"
        "abide": 1101 scans from 17 sites. "ds030": 265 scans from 2 other scanners of
        another study, for use as a held-out data set.

    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=True
        If True, the data are pandas objects. If False, they are arrays, ``data`` of
        dtype object because ``site`` is text.

    Returns
    -------
    data : Bunch or (data, target)
        A Bunch with ``data`` (n_samples, 69), ``target`` (n_samples,), ``frame`` (None
        for arrays), ``feature_names``, ``target_names``, ``DESCR``, ``filename`` and
        ``data_module``.

    Raises
    ------
    ValueError
        If `subset` is neither of the two.

    Notes
    -----
    **Target.** ``rating`` between -1 and 1. A rating is -1 (exclude), 0 (doubtful) or
    1 (accept). In "abide" it is the mean of raters 1 and 2 where both looked at the scan
    (99 rows) and otherwise the rating of the one who did (501 rows rater 1 alone, 501
    rows rater 2 alone; no row is without). It takes the values -1 (322 rows), -0.5 (15), 0
    (341), 0.5 (21) and 1 (402). The two use one scale differently: rater 1 gave
    -1, 0, 1 to 173, 261, 166 scans, rater 2 to 193, 123, 284; of the 99 common scans
    they agree on 57 and contradict each other (-1 against 1) on 6. In "ds030" it is rater
    1's rating: -1, 0, 1 for 75, 145, 45 scans.

    **Features.** ``site`` (text) and 68 numbers: signal-to-noise and contrast-to-noise
    ratios (snr, snrd, cnr, cjv), entropy focus (efc), foreground-background energy (fber),
    smoothness in voxels (fwhm), volume fractions (icvs), intensity non-uniformity (inu),
    artefact measures (qi), residual partial volume (rpve), size of the image in voxels,
    spacing in mm, and eight intensity summaries for background, cerebrospinal fluid, grey and
    white matter, on a scale where the median of white matter is 1000 (``_n``: number of voxels;
    ``_k``: excess kurtosis). ``frame`` also keeps ``subject_id``, the columns of the
    single raters and the target; "abide" has a ``rater_3`` of every scan (-1, 0, 1 for
    156, 17, 928), "ds030" has ``has_ghost`` (0 or 1).

    **What to know.** No metric is missing and, in "abide", none is constant, but size and
    spacing are constant within about half of the sites, ``summary_wm_median`` barely moves (its
    standard deviation is 0.016), and ``qi_1`` is 0 in 970 rows. 72 scans of UM come with an
    emptied background, so that five of its summaries are 0. Subjects 50279
    and 50286 (both UM) have the same metrics in every digit, that is one scan under two names.
    In "ds030" ``size_x`` and ``size_z`` are constant and ``spacing_y`` equals ``spacing_z``.
    Sites have 27 (CMU) to 184 (NYU) scans; "ds030" has BMC with 174 and CCN with 91.

    **Provenance.** Python package mriqc-learn 0.0.3, files ``datasets/abide.tsv`` and
    ``datasets/ds030.tsv``, copyright The NiPreps Developers, Apache-2.0; the licence
    (``mriqc_LICENSE.txt``) and a notice of changes (``mriqc_NOTICE.txt``) lie beside the data.
    The scans themselves, which are not shipped, belong to ABIDE I [2]_ and to the study ds030 [3]_.

    References
    ----------
    .. [1] O. Esteban et al., MRIQC: Advancing the automatic prediction of image quality in
       MRI from unseen sites, PLoS ONE 12(9):e0184661, 2017.
    .. [2] A. Di Martino et al., The autism brain imaging data exchange, Molecular
       Psychiatry 19:659-667, 2014.
    .. [3] R. A. Poldrack et al., A phenome-wide examination of neural and cognitive
       function, Scientific Data 3:160110, 2016.

    Examples
    --------
    >>> from sklme.datasets import load_mriqc
    >>> scans = load_mriqc()
    >>> scans.data.shape, scans.data["site"].nunique()
    ((1101, 69), 17)
    >>> load_mriqc(subset="ds030").frame.groupby("site")["rating"].size().to_dict()
    {'BMC': 174, 'CCN': 91}
    """
    if subset not in SUBSETS:
        raise ValueError(f"subset must be one of {list(SUBSETS)}; got {subset!r}.")
    filename = f"mriqc_{subset}.tsv.gz"
    frame = read_table(filename)
    frame["rating"] = _mean_rating(frame)
    return as_bunch(
        frame,
        [name for name in frame.columns if name not in NOT_FEATURES],
        "rating",
        filename=filename,
        descr=getdoc(load_mriqc),
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def _mean_rating(frame):
    """Mean over those of raters 1 and 2 who saw the scan."""
    return frame.filter(["rater_1", "rater_2"]).mean(axis=1)
