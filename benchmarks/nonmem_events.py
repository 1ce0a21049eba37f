"""Every kind of dose record against NONMEM: ``python benchmarks/nonmem_events.py PATH``.

PATH is a table of events (id time cp cmt amt evid ii ss addl rate lagt bioav dur2 mode) with the
predictions cp of NONMEM 7.4.3 for a depot and one compartment, CL 1.1, V 20, KA 1.5, cp in 1/1000,
printed with five digits; lagt and bioav are those of doses into the central compartment, and dur2
is the duration where mode is 2. A subject agrees if each prediction rounds to what is printed.
"""

import sys

import numpy as np
import pandas as pd

from sklme.pharmacokinetics import Dosing, OneCompartment

CL, V, KA = 1.1, 20.0, 1.5
REASON = "NONMEM goes back in time from the first arrival (also below 0); sklme stays periodic"


def read(path):
    """The table with the columns of NONMEM."""
    table = pd.read_csv(path)
    return table.rename(columns={"cp": "DV"})


def predict(events):
    """cp at the samples of one subject, and those printed."""
    X, printed, dosing = Dosing.from_nonmem(events)
    first = events[(events.evid != 0) & (events.cmt == 2)].head(1)
    row = first if len(first) else events.head(1)
    lag, F, duration = (float(row[name].iloc[0]) for name in ("lagt", "bioav", "dur2"))
    values = {"CL": CL, "V": V, "KA": KA, "D": duration, "TLAG": lag, "F": F}
    absorption = "zero-order" if (events["mode"] == 2).any() else "first-order"
    if absorption == "zero-order":  # without a depot the central compartment is the first
        events = events.assign(cmt=1)
        X, printed, dosing = Dosing.from_nonmem(events)
    model = OneCompartment(absorption, lag="central", bioavailability="central")
    bound = model.bind([X["id"].iloc[0]], [X["time"]], dosing)
    psi = np.array([[[values[name] for name in model.parameter_names]]])
    return 1000.0 * bound(psi)[0], printed


def kind(events):
    """What the doses of a subject are, in words."""
    doses = events[events.evid != 0]
    words = []
    if (doses.evid >= 3).any():
        words.append("reset")
    if (doses.rate == -2).any():
        words.append("modelled duration")
    elif (doses.rate > 0).any():
        words.append("infusion")
    if ((doses.rate == 0) & (doses.amt > 0)).any():
        words.append("bolus")
    words.append("depot" if (doses.cmt == 1).all() else "central")
    words += [f"SS={ss}" for ss in sorted(set(doses.ss) - {0})]
    if (doses.addl > 0).any():
        words.append("ADDL")
    central = doses[doses.cmt == 2]
    if (central.lagt > 0).any():
        longer = ((central.lagt >= central.ii) & (central.ss > 0)).any()
        words.append("lag >= II" if longer else "lag")
    if (central.bioav != 1).any():
        words.append("F")
    return " ".join(words)


def compare(table):
    """One row for each subject."""
    rows = []
    for subject, events in table.groupby("id"):
        f, printed = predict(events)
        unit = 10.0 ** (np.floor(np.log10(np.abs(printed) + (printed == 0))) - 4)
        off = np.abs(f - printed) / unit
        rows.append(
            {
                "id": subject,
                "kind": kind(events),
                "rows": len(f),
                "agree": int((off <= 0.5 + 1e-6).sum()),
                "largest": (np.abs(f - printed) / np.maximum(np.abs(printed), 1.0)).max(),
                "why not": REASON if "lag >= II" in kind(events) else "",
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    result = compare(read(sys.argv[1]))
    print(result.to_string(index=False))
    whole = result["rows"] == result["agree"]
    print(f"{whole.sum()} of {len(whole)} subjects agree to every printed digit")
