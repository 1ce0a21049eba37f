"""Draws of a plan -> the tables of a result."""

import numpy as np
import pandas as pd

from sklme.evaluation._pool import all_rows, pool_sites, site_table
from sklme.evaluation.result import CrossSiteResult

COLUMNS = (
    *("metric", "site", "n_target", "estimate", "std_error", "lower", "upper", "n", "n_events"),
    *("n_train", "n_train_sites", "weight", "status", "reason"),
)


def assemble(plan, draws, how, about, fitted=None):
    """The result of these draws; `about` holds the settings that neither plan nor pooling know."""
    table = site_table(plan, draws, how.min_events)
    pooled = pool_sites(table, plan.metrics, how, all_rows(plan, draws))  # fills in the weights
    return CrossSiteResult(
        table=table[list(COLUMNS)],
        pooled=pooled,
        predictions=_predictions(plan, draws),
        excluded=_excluded(plan, draws),
        task=plan.task,
        classes=plan.classes,
        metrics=plan.metrics,
        settings=_settings(plan, how) | about,
        estimators=fitted,
    )


def _settings(plan, how):
    known = plan.target
    return {
        "update": known.update,
        "n_target": known.sizes,
        "n_repeats": known.n_repeats,
        "pooling": how.method,
        "ci": how.ci,
        "pi_method": how.prediction,
        "pi_dof": how.prediction_dof,
        "confidence_level": how.confidence_level,
        "min_events": how.min_events,
        "benchmark": how.benchmark,
        "n_sites": len(plan.sites),
        "n_rows": len(plan.y),
        "n_patients": None if plan.patients is None else len(plan.patients),
        "site": plan.sites.name,
        "random_state": plan.entropy,
    }


def _predictions(plan, draws):
    parts = [_prediction_rows(plan, d) for d in draws if d.prediction is not None]
    if not parts:
        return pd.DataFrame(columns="site row y prediction fold n_target repeat".split())
    return pd.concat(parts, ignore_index=True)


def _prediction_rows(plan, one):
    label = plan.sites.values[[one.site] * len(one.rows)]
    y = plan.coded[one.rows]
    frame = pd.DataFrame({"site": label, "row": one.rows, "y": y})
    if one.prediction.ndim == 1:
        frame["prediction"] = one.prediction
    else:
        frame["y"] = plan.classes[y]
        for c, name in enumerate(plan.classes):
            frame[f"prediction_{name}"] = one.prediction[:, c]
    return frame.assign(fold=one.fold, n_target=one.size, repeat=one.repeat)


def _excluded(plan, draws):
    """Sites that no fold tested."""
    tested = np.unique([d.site for d in draws])
    left = np.setdiff1d(np.arange(len(plan.sites)), tested)
    return pd.DataFrame(
        {
            "site": plan.sites.values[left],
            "n": np.bincount(plan.sites.codes, minlength=len(plan.sites))[left],
            "reason": "in no test fold of cv",
        }
    )
