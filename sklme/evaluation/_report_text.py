"""What a report says in words: the summary, how it was done, and the terms."""

import platform
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from sklme.evaluation._views import interval, n_targets, number, pooled_row

RIGHT = (0.8, 1.25)  # observed over expected events that the summary calls right
PACKAGES = ("sklme", "scikit-learn", "numpy", "scipy", "pandas", "matplotlib")

KNOWN = {
    "new": "nothing: no row of the site was used before its rows were predicted",
    "unlabeled": "some rows without their outcome, used to adapt the model and then left out",
    "updated": "some rows with their outcome, used to update the model and then left out",
}
WORDS = {
    "pooling": {
        "reml": "random effects of the sites, by restricted maximum likelihood",
        "ml": "random effects of the sites, by maximum likelihood",
        "dl": "random effects of the sites, DerSimonian and Laird",
    },
    "ci": {
        "hksj": "Hartung, Knapp, Sidik and Jonkman (t distribution)",
        "normal": "normal distribution",
    },
    "pi_method": {
        "hksj": "t distribution, with the between-site variance as estimated",
        "bootstrap": "confidence distribution of the between-site variance (Nagashima, Noma and "
        "Furukawa 2019)",
    },
    "target": KNOWN,
    "update": {
        "adapt": "the model learns the site (sklme.adapt), its common part stays",
        "recalibrate": "its predictions are recalibrated at the site (SiteRecalibrator)",
    },
}
LABELS = {
    "cv": "Scheme",
    "target": "Known of the site that is predicted",
    "n_target": "Rows of that site that were used",
    "n_repeats": "Draws of these rows",
    "update": "How the model is updated",
    "site": "Sites are the values of",
    "groups": "Patients are the values of",
    "n_sites": "Sites",
    "n_rows": "Rows",
    "n_patients": "Patients",
    "min_events": "Least count of the smaller class for a site to be pooled",
    "pooling": "Pooling over sites",
    "ci": "Confidence interval of the mean",
    "pi_method": "Prediction interval of a new site",
    "pi_dof": "Its degrees of freedom (k: number of sites)",
    "confidence_level": "Level of the intervals",
    "thresholds": "Threshold probabilities",
    "benchmark": "Benchmark",
    "random_state": "Random state",
}
GLOSSARY = {
    "roc_auc": (
        "AUC",
        "The probability that of two patients at the same site, one with the event and one "
        "without, the model gives the higher value to the former. 0.5 is chance, 1 is perfect.",
    ),
    "calibration_intercept": (
        "Calibration intercept",
        "How much higher the log odds of the event are than predicted. 0 is right; below 0, "
        "probabilities are too high.",
    ),
    "calibration_slope": (
        "Calibration slope",
        "How far log odds differ between patients for each unit of predicted difference. 1 is "
        "right; below 1, predictions are too extreme.",
    ),
    "oe_ratio": (
        "Observed / expected",
        "Events observed for each event that was predicted. 1 is right.",
    ),
    "brier": (
        "Brier score",
        "Mean squared distance between the probability and what happened (0 or 1). 0 is perfect.",
    ),
    "net_benefit": (
        "Net benefit",
        "True positives per patient, less false positives at the exchange rate that the threshold "
        "probability implies. Worth having only above treating all and treating none.",
    ),
    "r2": ("R²", "Share of the variance of the outcome within a site that is explained."),
    "rmse": ("RMSE", "Root of the mean squared error, in units of the outcome."),
    "mae": ("MAE", "Mean absolute error, in units of the outcome."),
    "accuracy": ("Accuracy", "Share of rows with the right class."),
}
TERMS = (
    (
        "Mean and its confidence interval",
        "The mean over the sites from which these were sampled, and how well it is known. It says "
        "nothing about a single site.",
    ),
    (
        "Prediction interval of a new site",
        "Where the true value at one further site of the same kind will lie with the stated "
        "probability. It does not shrink to nothing with many sites, since sites do differ.",
    ),
    (
        "τ and I²",
        "τ is the standard deviation of the true values between sites, on the scale of pooling. "
        "I² is the share of the variance of the estimates that comes from it, not from chance.",
    ),
    (
        "Few events",
        "A site whose smaller class is too small for its estimate to be pooled; it is shown pale.",
    ),
    ("Not estimable", "A site whose rows do not determine the number, for the reason given."),
)


def summary(result):
    """Sentences for people who do not read tables."""
    sizes = n_targets(result)
    metric = _headline(result)
    sentences = [_expect(result, metric, sizes[0])]
    sentences += [_level(result, sizes[0]), _spread(result, sizes[0])]
    if len(sizes) > 1:
        sentences += [_expect(result, metric, sizes[-1]), _level(result, sizes[-1])]
    return [s for s in sentences if s]


def _headline(result):
    names = {metric.name: metric for metric in result.metrics}
    return names.get("roc_auc", result.metrics[0])


def _where(result, size):
    target = result.settings.get("target", "new")
    if target == "new" or size == 0:
        return "At a new site, of which nothing is known"
    what = "without" if target == "unlabeled" else "with"
    return f"At a new site, after {size} of its rows {what} their outcome were used"


def _expect(result, metric, size):
    row = pooled_row(result, metric, size)
    start = f"{_where(result, size)}, {_article(metric)}"
    if row is None or not np.isfinite(row["mean"]):
        return f"{start} cannot be foretold: {row['reason'] if row is not None else 'no estimate'}."
    level = f"{100 * result.settings.get('confidence_level', 0.95):g} %"
    text = (
        f"{start} can be expected to be about {number(row['mean'])} (mean of "
        f"{int(row['n_sites'])} sites, {level} confidence interval {_to(row, '')})"
    )
    if np.isfinite(row["prediction_lower"]):
        text += f"; for a single new site it should lie between {_to(row, 'prediction_', ' and ')}"
        text += f" ({level} prediction interval)."
    else:
        text += f"; how far a single site may be from that is not known ({row['reason']})."
    if np.isfinite(row["probability"]):
        better = "above" if metric.greater_is_better else "below"
        share = f"{100 * row['probability']:.0f} %"
        text += f" The probability that it is {better} {number(row['benchmark'])} is {share}."
    return text


def _article(metric):
    text = metric.label if metric.label[:2].isupper() else metric.label.lower()
    return f"the {metric.label if '/' in text or '²' in text else text}"


def _to(row, prefix, between=" to "):
    return f"{number(row[f'{prefix}lower'])}{between}{number(row[f'{prefix}upper'])}"


def _find(result, name, size):
    metric = next((m for m in result.metrics if m.name == name), None)
    row = None if metric is None else pooled_row(result, metric, size)
    return row if row is not None and np.isfinite(row["mean"]) else None


def _level(result, size):
    """Whether probabilities are right in the large."""
    row = _find(result, "oe_ratio", size)
    if row is None:
        return ""
    first = size == n_targets(result)[0]
    start = (
        f"{'Are the probabilities right there? On' if first else 'Then, on'} average over sites "
        f"there are {number(row['mean'])} events for each one that is predicted ({_to(row, '')})"
    )
    low, high = row["prediction_lower"], row["prediction_upper"]
    if not np.isfinite(low):
        return f"{start}; what to expect of a single site is not known."
    text = f"{start}, and at a single new site between {_to(row, 'prediction_', ' and ')}. "
    if low >= RIGHT[0] and high <= RIGHT[1]:
        return f"{text}The level of the probabilities can be expected to hold."
    if result.settings.get("target") == "updated" and size > 0:
        return f"{text}That is still too wide to take a probability at its word."
    return (
        f"{text}That is too wide to take a probability at its word: check the probabilities, and "
        "recalibrate them, with cases of the new site first."
    )


def _spread(result, size):
    row = _find(result, "calibration_slope", size)
    if row is None:
        return ""
    slope = f"calibration slope {number(row['mean'])}, {_to(row, '')}; 1 is right"
    if row["upper"] < 1:
        return f"Predictions are too extreme on average: high ones too high, low too low ({slope})."
    if row["lower"] > 1:
        return f"Predictions are too close to one another on average ({slope})."
    return f"There is no sign that predictions are too extreme, or too close, on average ({slope})."


def how(result, date):
    """Pairs of what was decided and how."""
    settings = {k: v for k, v in result.settings.items() if v is not None and np.size(v)}
    settings = {k: v for k, v in settings.items() if v != "" and v != {}}
    estimator = settings.pop("estimator", None)
    versions = settings.pop("versions", None) or installed()
    pairs = [] if estimator is None else [("Estimator", [str(estimator)])]
    for key in [*LABELS, *(k for k in settings if k not in LABELS)]:
        if key in settings:
            pairs.append((LABELS.get(key, key), _value(key, settings[key])))
    scales = ", ".join(f"{m.label}: {m.scale}" for m in result.metrics)
    pairs.append(("Scale of pooling", scales))
    if result.classes is not None and result.task == "binary":
        pairs.append(("Event", f"class {result.classes[1]}"))
    pairs.append(("Software", ", ".join(f"{name} {number}" for name, number in versions.items())))
    return [*pairs, ("Date of this page", date)]


def _value(key, value):
    words = WORDS.get(key, {})
    if isinstance(value, str):
        return words.get(value, value)
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(str(v) for v in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items()) or "none"
    return f"{100 * value:g} %" if key == "confidence_level" else str(value)


def installed():
    """Versions of what computed the numbers."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def glossary(result):
    """The terms on the page."""
    names = dict.fromkeys(metric.name.partition("@")[0] for metric in result.metrics)
    return [*(GLOSSARY[name] for name in names if name in GLOSSARY), *TERMS]


def tau(row):
    """The standard deviation between sites and its interval."""
    root = np.sqrt(np.array([row["tau2"], row["tau2_lower"], row["tau2_upper"]], dtype=float))
    if not np.isfinite(root[0]):
        return "–"
    ends = interval(root[1], root[2])
    return number(root[0]) if ends == "–" else f"{number(root[0])} {ends}"
