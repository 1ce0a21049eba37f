# Constants, hence longer than other files.
"""What R answers for classic generalised models: the numbers that our fits must give.

Made with R 4.2.2, lme4 1.1-31, glmmTMB 1.1.5 and ordinal 2022.11-16, factors in treatment coding.
Each lme4 and glmmTMB fit was optimised to rhoend 1e-9 and refined by Newton steps on the deviance
until the step that remained was below 1e-7. Every case holds

- `r_call`, the `loader` in `sklme.datasets`, `target` and `trials`, the `family` and its `link`;
- `columns`: R's name of a fixed effect -> a column, or (column, level) of an indicator; those of
  the logit share of zeros are `zero_columns`; `groups` are the grouping factors;
- `fixed` and `standard_errors` (the intercept first) from the Hessian of the deviance in all
  parameters; `conditional_errors` are lme4's at known theta;
- `sd` of the random intercepts in the order of `groups`. For glmmTMB they are exp of the internal
  parameter, because its VarCorr was made before the last Newton steps (off by up to 8e-6);
- `aux`: auxiliary coefficients (log dispersion, logit share of zeros), and their `aux_errors`;
- `log_likelihood`, and -2 times it `away` from the optimum (0.1 added to theta, 0.05 to beta);
- `random_effects`: by factor the `levels`, their `values`, `sum_of_squares` over all levels (large
  factors show their first five levels only), and `variances`. lme4's are conditional on all
  parameters, glmmTMB's include what is not known of them (`joint_variances`); glmmTMB's values
  too are of a moment before the last Newton steps;
- `fitted` means of the first ten rows, and linear predictors of `new_rows` (NEWLEVEL is a level
  that was not in the data) with the random effects (`conditional`) and without (`population`);
  the means belong to `conditional_response` and `population_response`.

`rows_of` and `new_rows_of` build designs from them.
"""

import numpy as np
import pandas as pd

from sklme import datasets
from sklme._engine.design import Design, Factor


def frame_of(case):
    """The data of a case as a table."""
    return getattr(datasets, case["loader"])(as_frame=True).frame


def rows_of(case):
    """Design, y, and the keyword arguments of a fit; and the labels of each factor's levels."""
    frame = frame_of(case)
    factors, labels = [], {}
    for name in case["groups"]:
        codes, labels[name] = pd.factorize(frame[name].astype(str))
        factors.append(Factor(codes, len(labels[name]), np.ones((len(frame), 1))))
    given = {}
    if case["trials"]:
        given["trials"] = frame[case["trials"]].to_numpy(float)
    if case["zero_columns"]:
        given["aux"] = (_matrix(case["zero_columns"], frame),)
    design = Design(_matrix(case["columns"], frame), tuple(factors))
    return design, frame[case["target"]].to_numpy(float), given, labels


def new_rows_of(case, labels):
    """X and the level codes of `new_rows`; -1 for a level that is not known."""
    frame = pd.DataFrame(case["new_rows"])
    codes = [pd.Index(labels[name]).get_indexer(frame[name]) for name in case["groups"]]
    return _matrix(case["columns"], frame), codes


def _matrix(columns, frame):
    return np.column_stack([_column(source, frame) for source in columns.values()])


def _column(source, frame):
    if isinstance(source, str):
        return frame[source].to_numpy(float)
    column, level = source
    return (frame[column].astype(str) == level).to_numpy(float)


# fmt: off
CASES = {
    "cbpp": {
        "r_call": (
            "lme4::glmer(formula = cbind(incidence, size - incidence) ~ period + (1 | "
            "herd), data = dat, family = binomial, nAGQ = 1)"
        ),
        "loader": "load_cbpp",
        "target": "incidence",
        "trials": "size",
        "family": "binomial",
        "link": "logit",
        "columns": {
            "period2": ("period", "2"), "period3": ("period", "3"), "period4": ("period", "4"),
        },
        "zero_columns": {},
        "groups": ["herd"],
        "n_quadrature": 1,
        "fixed": [-1.39853214245, -0.992332734841, -1.12867208414, -1.58031388516],
        "standard_errors": [0.232471999, 0.306642488, 0.326637838, 0.427436576],
        "conditional_errors": [0.227890884, 0.305385529, 0.326049286, 0.428795011],
        "sd": [0.64226144851],
        "aux": [],
        "log_likelihood": -92.0262818648307,
        "away": {
            "theta": [0.742261448509949],
            "beta": [-1.34853214244689, -0.942332734840616, -1.07867208414357, -1.53031388515537],
            "value": 184.496160230188,
        },
        "random_effects": {
            "herd": {
                "levels": [
                    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
                ],
                "values": [
                    0.590020033, -0.298897213, 0.406255574, 0.0392773202, -0.190015341,
                    -0.400268567, 0.889393968, 0.599371929, -0.237654871, -0.540935189,
                    -0.0846366468, -0.0648165383, -0.689924564, 0.970716395, -0.530476332,
                ],
                "sum_of_squares": 4.010785203,
                "variances": [
                    0.121288549, 0.133632802, 0.0883982827, 0.173379119, 0.122779117, 0.144366388,
                    0.106583338, 0.103098168, 0.212897249, 0.137402646, 0.0955566129, 0.194602291,
                    0.148083298, 0.126310027, 0.158167553,
                ],
            },
        },
        "fitted": [
            0.308207647, 0.141748254, 0.125957529, 0.0840287486, 0.154801304, 0.0635801815,
            0.0559298927, 0.270462647, 0.12082834, 0.107077334,
        ],
        "new_rows": {
            "herd": ["1", "NEWLEVEL", "NEWLEVEL", "12", "15"], "period": ["1", "4", "1", "2", "4"],
        },
        "conditional": [-0.808512109, -2.97884603, -1.39853214, -2.45568142, -3.50932236],
        "population": [-1.39853214, -2.97884603, -1.39853214, -2.39086488, -2.97884603],
        "conditional_response": [
            0.308207647, 0.0483907404, 0.198049142, 0.0790240697, 0.0290481422,
        ],
        "population_response": [0.198049142, 0.0483907404, 0.198049142, 0.083871953, 0.0483907404],
    },
    "cbpp nine nodes": {
        "r_call": (
            "lme4::glmer(formula = cbind(incidence, size - incidence) ~ period + (1 | "
            "herd), data = dat, family = binomial, nAGQ = 9)"
        ),
        "loader": "load_cbpp",
        "target": "incidence",
        "trials": "size",
        "family": "binomial",
        "link": "logit",
        "columns": {
            "period2": ("period", "2"), "period3": ("period", "3"), "period4": ("period", "4"),
        },
        "zero_columns": {},
        "groups": ["herd"],
        "n_quadrature": 9,
        "fixed": [-1.39923019258, -0.991403876498, -1.12781967731, -1.57947101616],
        "standard_errors": [0.233511401, 0.306767982, 0.326768358, 0.427594517],
        "conditional_errors": [0.228948714, 0.305452073, 0.326109021, 0.428870195],
        "sd": [0.647517712002],
        "aux": [],
        "log_likelihood": -50.0050180273989,
        "away": {
            "theta": [0.747517712001679],
            "beta": [-1.34923019257918, -0.941403876498448, -1.07781967730805, -1.52947101615676],
            "value": 100.446234306674,
            "rise": 0.43619825187600725,
        },
        "random_effects": {
            "herd": {
                "levels": [
                    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
                ],
                "values": [
                    0.593024316, -0.30025817, 0.407863694, 0.0396877671, -0.190792138, -0.402401979,
                    0.893338456, 0.602328952, -0.239512052, -0.543696046, -0.0847791797,
                    -0.0651502239, -0.693806024, 0.97592478, -0.533607157,
                ],
                "sum_of_squares": 4.0518795242,
                "variances": [
                    0.121728844, 0.134450897, 0.0886404841, 0.174547454, 0.123435127, 0.145366941,
                    0.1068939, 0.103449756, 0.214857874, 0.138375768, 0.095932769, 0.196141616,
                    0.149283376, 0.126814595, 0.159429055,
                ],
            },
        },
        "fitted": [
            0.308699589, 0.142142277, 0.126305681, 0.0842714461, 0.1545321, 0.0635129281,
            0.0558662162, 0.270642253, 0.121023824, 0.107245965,
        ],
        "new_rows": {
            "herd": ["1", "NEWLEVEL", "NEWLEVEL", "12", "15"], "period": ["1", "4", "1", "2", "4"],
        },
        "conditional": [-0.806205877, -2.97870121, -1.39923019, -2.45578429, -3.51230837],
        "population": [-1.39923019, -2.97870121, -1.39923019, -2.39063407, -2.97870121],
        "conditional_response": [
            0.308699589, 0.0483974096, 0.197938297, 0.0790165827, 0.0289640421,
        ],
        "population_response": [0.197938297, 0.0483974096, 0.197938297, 0.0838896894, 0.0483974096],
    },
    "verbagg": {
        "r_call": (
            "lme4::glmer(formula = y ~ Anger + Gender + btype + situ + (1 | id) + (1 | "
            "item), data = dat, family = binomial, nAGQ = 1)"
        ),
        "loader": "load_verbagg",
        "target": "y",
        "trials": None,
        "family": "binomial",
        "link": "logit",
        "columns": {
            "Anger": "Anger",
            "GenderM": ("Gender", "M"),
            "btypescold": ("btype", "scold"),
            "btypeshout": ("btype", "shout"),
            "situself": ("situ", "self"),
        },
        "zero_columns": {},
        "groups": ["id", "item"],
        "n_quadrature": 1,
        "fixed": [
            0.199059150991, 0.0574295808348, 0.320710412373, -1.05880026548, -2.10540282427,
            -1.05546447286,
        ],
        "standard_errors": [
            0.40662754, 0.0168413429, 0.191924505, 0.257287345, 0.259472964, 0.2107893,
        ],
        "conditional_errors": [
            0.405178398, 0.0167572775, 0.191258376, 0.256805069, 0.258528363, 0.210302275,
        ],
        "sd": [1.33970883132, 0.495303964029],
        "aux": [],
        "log_likelihood": -4075.69986039661,
        "away": {
            "theta": [1.43970883132121, 0.595303964029091],
            "beta": [0.249059150991114, 0.107429580834768, 0.370710412373229, -1.00880026547522,
            -2.05540282426704, -1.00546447286439],
            "value": 8218.66596479195,
        },
        "random_effects": {
            "id": {
                "levels": ["1", "2", "3", "4", "5"],
                "values": [-0.673594626, -2.23956498, -0.0430094483, 0.501732861, -0.0430094483],
                "sum_of_squares": 453.41606964,
            },
            "item": {
                "levels": [
                    "S1WantCurse", "S1WantScold", "S1WantShout", "S2WantCurse", "S2WantScold",
                ],
                "values": [-0.233089478, 0.165501538, 0.710326865, 0.232724974, 0.293553619],
                "sum_of_squares": 5.0704154126,
            },
        },
        "fitted": [
            0.681717734, 0.210625446, 0.710798046, 0.84207166, 0.710798046, 0.75224226, 0.856264064,
            0.416597763, 0.71938773, 0.949514612,
        ],
        "new_rows": {
            "Anger": [20, 20, 12, 12, 12],
            "Gender": ["M", "M", "F", "F", "F"],
            "btype": ["curse", "curse", "shout", "shout", "shout"],
            "situ": ["other", "self", "self", "other", "self"],
            "id": ["1", "NEWLEVEL", "NEWLEVEL", "316", "316"],
            "item": ["S1WantCurse", "S3WantCurse", "NEWLEVEL", "S2DoShout", "S4DoShout"],
        },
        "conditional": [0.761677076, 0.743592224, -2.27265318, -2.49035885, -3.02896532],
        "population": [1.66836118, 0.612896707, -2.27265318, -1.2171887, -2.27265318],
        "conditional_response": [
            0.681717734, 0.677780877, 0.0934132796, 0.0765368303, 0.0461343376,
        ],
        "population_response": [0.841357202, 0.648601297, 0.0934132796, 0.228431565, 0.0934132796],
    },
    "grouseticks poisson": {
        "r_call": (
            "lme4::glmer(formula = TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + "
            "(1 | LOCATION), data = dat, family = poisson, nAGQ = 1)"
        ),
        "loader": "load_grouseticks",
        "target": "TICKS",
        "trials": None,
        "family": "poisson",
        "link": "log",
        "columns": {"YEAR96": ("YEAR", "96"), "YEAR97": ("YEAR", "97"), "cHEIGHT": "cHEIGHT"},
        "zero_columns": {},
        "groups": ["INDEX", "BROOD", "LOCATION"],
        "n_quadrature": 1,
        "fixed": [0.372781303731, 1.18041031845, -0.978695241204, -0.023760575998],
        "standard_errors": [0.196377515, 0.23812998, 0.262790464, 0.00343849909],
        "conditional_errors": [0.19039175, 0.235624885, 0.262967248, 0.00342830462],
        "sd": [0.541509241498, 0.75003383505, 0.528719717032],
        "aux": [],
        "log_likelihood": -890.271340075769,
        "away": {
            "theta": [0.641509241498116, 0.850033835049998, 0.628719717031519],
            "beta": [0.422781303731399, 1.23041031845124, -0.92869524120368, 0.0262394240019819],
            "value": 1959.78781029305,
        },
        "random_effects": {
            "INDEX": {
                "levels": ["1", "2", "3", "4", "5"],
                "values": [-0.147476604, -0.147476604, -0.210411829, -0.250306651, -0.250306651],
                "sum_of_squares": 36.131670715,
                "variances": [0.263547816, 0.263547816, 0.256982263, 0.243000573, 0.243000573],
            },
            "BROOD": {
                "levels": ["501", "502", "503", "504", "505"],
                "values": [-0.565852304, -0.403664091, 0.18220168, -0.0906188809, -0.501369526],
                "sum_of_squares": 30.107562451,
                "variances": [0.402952643, 0.429134763, 0.264044888, 0.332046123, 0.404484108],
            },
            "LOCATION": {
                "levels": ["1", "2", "3", "4", "5"],
                "values": [-0.181330184, -0.0958585538, -0.646682286, 0.495909911, 0.046324148],
                "sum_of_squares": 5.627377961,
                "variances": [0.160702627, 0.213023477, 0.197380473, 0.104384194, 0.198118556],
            },
        },
        "fitted": [
            0.502934447, 0.502934447, 0.717560305, 0.85361226, 0.85361226, 1.63571587, 1.33317473,
            0.597957399, 0.597957399, 0.965170901,
        ],
        "new_rows": {
            "INDEX": ["1", "102", "NEWLEVEL", "302", "403"],
            "BROOD": ["501", "NEWLEVEL", "NEWLEVEL", "710", "743"],
            "YEAR": ["95", "95", "96", "97", "97"],
            "LOCATION": ["32", "60", "NEWLEVEL", "63", "25"],
            "cHEIGHT": [2.75930521091811, 55.7593052109181, 9.75930521091811, 70.7593052109181,
            -12.2406947890819],
        },
        "conditional": [-0.687295442, -0.240085863, 1.32130491, -1.40572765, -0.20503314],
        "population": [0.307218623, -0.952091905, 1.32130491, -2.28719579, -0.315067979],
        "conditional_response": [0.502934447, 0.786560322, 3.74830939, 0.24518858, 0.814620319],
        "population_response": [1.35963818, 0.385932843, 3.74830939, 0.101550833, 0.729739266],
    },
    "grouseticks nb2": {
        "r_call": (
            "glmmTMB::glmmTMB(TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION), data"
            " = dat, family = glmmTMB::nbinom2())"
        ),
        "loader": "load_grouseticks",
        "target": "TICKS",
        "trials": None,
        "family": "nb2",
        "link": "log",
        "columns": {"YEAR96": ("YEAR", "96"), "YEAR97": ("YEAR", "97"), "cHEIGHT": "cHEIGHT"},
        "zero_columns": {},
        "groups": ["BROOD", "LOCATION"],
        "n_quadrature": 1,
        "fixed": [0.523714842619, 1.16717232261, -0.988247366082, -0.0236784074509],
        "standard_errors": [0.194750028, 0.232894111, 0.257105083, 0.00350844669],
        "sd": [0.697967558065, 0.593364294958],
        "aux": [[-1.19180047623]],
        "log_likelihood": -888.908425890013,
        "random_effects": {
            "BROOD": {
                "levels": ["501", "502", "503", "504", "505"],
                "values": [-0.523399743, -0.382360587, 0.15721514, -0.11964486, -0.464005317],
                "sum_of_squares": 23.913083703,
                "joint_variances": [
                    0.405033028, 0.393983392, 0.264986197, 0.314835401, 0.393190082,
                ],
            },
            "LOCATION": {
                "levels": ["1", "2", "3", "4", "5"],
                "values": [-0.253542418, -0.151682504, -0.850641993, 0.484171205, 0.0158413347],
                "sum_of_squares": 8.2121625794,
                "joint_variances": [
                    0.195656065, 0.258929904, 0.438430943, 0.146305684, 0.229771572,
                ],
            },
        },
        "fitted": [
            0.641916126, 0.641916126, 1.03049669, 1.14135725, 1.14135725, 1.14135725, 1.14135725,
            0.767616722, 0.767616722, 0.767616722,
        ],
    },
    "salamanders nb1": {
        "r_call": (
            "glmmTMB::glmmTMB(count ~ mined + spp + (1 | site), data = dat, family = "
            "glmmTMB::nbinom1())"
        ),
        "loader": "load_salamanders",
        "target": "count",
        "trials": None,
        "family": "nb1",
        "link": "log",
        "columns": {
            "minedno": ("mined", "no"),
            "sppPR": ("spp", "PR"),
            "sppDM": ("spp", "DM"),
            "sppEC-A": ("spp", "EC-A"),
            "sppEC-L": ("spp", "EC-L"),
            "sppDES-L": ("spp", "DES-L"),
            "sppDF": ("spp", "DF"),
        },
        "zero_columns": {},
        "groups": ["site"],
        "n_quadrature": 1,
        "fixed": [
            -1.30555253192, 1.98764432757, -1.35819350502, 0.230754144405, -0.798727112605,
            0.439872131724, 0.578170428653, 0.0893797375182,
        ],
        "standard_errors": [
            0.255797087, 0.256827913, 0.300937511, 0.193712984, 0.253772862, 0.19025346,
            0.184194954, 0.199144998,
        ],
        "sd": [0.464182864775],
        "aux": [[0.731871485051]],
        "log_likelihood": -815.101547024007,
        "random_effects": {
            "site": {
                "levels": [
                    "R-1", "R-2", "R-3", "R-4", "R-5", "R-6", "R-7", "R-8", "R-9", "R-10", "R-11",
                    "R-12", "VF-1", "VF-2", "VF-3", "VF-4", "VF-5", "VF-6", "VF-7", "VF-8", "VF-9",
                    "VF-10", "VF-11",
                ],
                "values": [
                    0.231448123, 0.208909302, -0.104729767, 0.403459134, 0.196095559, 0.526976728,
                    -0.211602437, 0.146897119, -0.577904615, -0.0691893144, -0.293302709,
                    -0.231633836, 0.111006588, 1.08562565, -0.542944195, -0.118193528, -0.277249565,
                    -0.277249565, 0.173284518, 0.549388774, -0.0136935996, -0.406716655,
                    0.0105791021,
                ],
                "sum_of_squares": 3.2828845275,
                "joint_variances": [
                    0.0463740607, 0.0473680589, 0.0543990043, 0.0462739551, 0.0483232342,
                    0.0418502853, 0.0547663958, 0.0478528546, 0.0744463043, 0.0518960165,
                    0.0556837347, 0.0562590525, 0.122002106, 0.130530805, 0.168875498, 0.129409258,
                    0.136599726, 0.136599726, 0.126210419, 0.123991726, 0.124152335, 0.149594595,
                    0.125515313,
                ],
            },
        },
        "fitted": [
            0.302841665, 0.802577868, 0.157473944, 2.49313376, 2.43757025, 1.78133468, 2.96107098,
            2.40653519, 3.35036429, 1.60077839,
        ],
    },
    "salamanders nb2": {
        "r_call": (
            "glmmTMB::glmmTMB(count ~ mined + spp + (1 | site), data = dat, family = "
            "glmmTMB::nbinom2())"
        ),
        "loader": "load_salamanders",
        "target": "count",
        "trials": None,
        "family": "nb2",
        "link": "log",
        "columns": {
            "minedno": ("mined", "no"),
            "sppPR": ("spp", "PR"),
            "sppDM": ("spp", "DM"),
            "sppEC-A": ("spp", "EC-A"),
            "sppEC-L": ("spp", "EC-L"),
            "sppDES-L": ("spp", "DES-L"),
            "sppDF": ("spp", "DF"),
        },
        "zero_columns": {},
        "groups": ["site"],
        "n_quadrature": 1,
        "fixed": [
            -1.68322310839, 2.26327494446, -1.31972513905, 0.368600207931, -0.709844750438,
            0.571404978225, 0.792928737402, 0.312032316706,
        ],
        "standard_errors": [
            0.274161365, 0.283807432, 0.287489413, 0.223462748, 0.252976223, 0.21908896,
            0.216648801, 0.232904585,
        ],
        "sd": [0.542629619611],
        "aux": [[0.0593216775551]],
        "log_likelihood": -826.202204554449,
        "random_effects": {
            "site": {
                "levels": [
                    "R-1", "R-2", "R-3", "R-4", "R-5", "R-6", "R-7", "R-8", "R-9", "R-10", "R-11",
                    "R-12", "VF-1", "VF-2", "VF-3", "VF-4", "VF-5", "VF-6", "VF-7", "VF-8", "VF-9",
                    "VF-10", "VF-11",
                ],
                "values": [
                    0.202846981, 0.0839847375, -0.0599261521, 0.478618221, 0.0922880253,
                    0.381240721, -0.238978582, 0.0751053382, -0.47036131, -0.0377752776,
                    -0.432221123, -0.160879117, 0.0625235521, 1.21421113, -0.764087191, -0.14961926,
                    -0.480921213, -0.476628683, 0.426854518, 0.789030437, -0.0353849435,
                    -0.614901892, 0.230831577,
                ],
                "sum_of_squares": 4.7131505253,
                "joint_variances": [
                    0.0689045051, 0.0672629258, 0.0721712445, 0.0658251303, 0.0677374362,
                    0.0659589298, 0.0748389042, 0.0697340054, 0.079247817, 0.0712568792,
                    0.080073223, 0.0725679637, 0.136495406, 0.122984072, 0.222411722, 0.143792938,
                    0.173582323, 0.173606341, 0.12569488, 0.130504821, 0.139343807, 0.193440737,
                    0.132242395,
                ],
            },
        },
        "fitted": [
            0.197759121, 0.625612733, 0.0865263196, 2.18781091, 1.94262544, 1.68224791, 2.88254221,
            1.95882516, 2.61508266, 1.40646145,
        ],
    },
    "salamanders zip": {
        "r_call": (
            "glmmTMB::glmmTMB(count ~ mined + (1 | site), data = dat, family = poisson(),"
            " ziformula = ~mined)"
        ),
        "loader": "load_salamanders",
        "target": "count",
        "trials": None,
        "family": "zero-inflated poisson",
        "link": "log",
        "columns": {"minedno": ("mined", "no")},
        "zero_columns": {"minedno": ("mined", "no")},
        "groups": ["site"],
        "n_quadrature": 1,
        "fixed": [0.0878961581046, 1.14192547264],
        "standard_errors": [0.232879328, 0.246149527],
        "sd": [0.280047431904],
        "aux": [[1.1393070687, -1.73606757546]],
        "aux_errors": [[0.235087137, 0.261999999]],
        "log_likelihood": -949.234760263515,
        "random_effects": {
            "site": {
                "levels": [
                    "R-1", "R-2", "R-3", "R-4", "R-5", "R-6", "R-7", "R-8", "R-9", "R-10", "R-11",
                    "R-12", "VF-1", "VF-2", "VF-3", "VF-4", "VF-5", "VF-6", "VF-7", "VF-8", "VF-9",
                    "VF-10", "VF-11",
                ],
                "values": [
                    -0.00214589778, 0.0818809679, 0.0369348012, 0.420982631, 0.140526288,
                    0.0940427088, -0.230857512, -0.0514759921, 0.219230121, -0.0988158862,
                    -0.441252269, -0.0852947684, -0.0492394796, 0.392760309, -0.225940302,
                    -0.057501567, -0.195248256, -0.195248256, 0.273453681, 0.219533973,
                    -0.0531210478, -0.209677062, 0.121187514,
                ],
                "sum_of_squares": 1.0013706882,
                "joint_variances": [
                    0.0181399535, 0.0185576636, 0.0217306502, 0.0166550365, 0.0187716515,
                    0.0163455787, 0.0253400474, 0.0196646211, 0.0315238818, 0.0216749731,
                    0.0336441273, 0.0233180786, 0.0576086127, 0.0744238625, 0.101449079,
                    0.0639630419, 0.0790572602, 0.0790572602, 0.0801463011, 0.065956115,
                    0.0603714262, 0.0887996357, 0.0663280146,
                ],
            },
        },
        "fitted": [
            0.252003531, 0.392070201, 0.211187054, 2.20127583, 2.3942352, 2.28900648, 3.36075295,
            2.53884454, 2.42353087, 1.75124395,
        ],
    },
    "sleepstudy gamma": {
        "r_call": (
            "glmmTMB::glmmTMB(Reaction ~ Days + (1 | Subject), data = dat, family = "
            'Gamma(link = "log"))'
        ),
        "loader": "load_sleepstudy",
        "target": "Reaction",
        "trials": None,
        "family": "gamma",
        "link": "log",
        "columns": {"Days": "Days"},
        "zero_columns": {},
        "groups": ["Subject"],
        "n_quadrature": 1,
        "fixed": [5.5339452675, 0.0338450611538],
        "standard_errors": [0.0322710081, 0.00250644911],
        "sd": [0.124586828852],
        "aux": [[-4.67349045187]],
        "log_likelihood": -883.578336699265,
        "random_effects": {
            "Subject": {
                "levels": [
                    "308", "309", "310", "330", "331", "332", "333", "334", "335", "337", "349",
                    "350", "351", "352", "369", "370", "371", "372",
                ],
                "values": [
                    0.128085299, -0.294713039, -0.232473815, 0.0286825268, 0.045791424,
                    0.0349927971, 0.062872052, -0.00465418213, -0.14773186, 0.22001275,
                    -0.0709952705, 0.046417471, -0.0164123406, 0.121072449, 0.0300488652,
                    -0.0218066855, -0.00291000473, 0.0662495412,
                ],
                "sum_of_squares": 0.26355334892,
                "joint_variances": [
                    0.00169646599, 0.00174784954, 0.00172945224, 0.00169372636, 0.00169341667,
                    0.00169339116, 0.00169340209, 0.00169458982, 0.00171157349, 0.00170618042,
                    0.00169980174, 0.00169363096, 0.00169525594, 0.00169563876, 0.00169346573,
                    0.00169582511, 0.00169449936, 0.00169344528,
                ],
            },
        },
        "fitted": [
            287.732206, 297.637192, 307.88315, 318.481819, 329.44534, 340.786272, 352.517608,
            364.652788, 377.205713, 390.190764,
        ],
    },
}

# lme4 puts the expected information into the determinant of Laplace's approximation where the link
# is not canonical: its estimates are not ours, nor as near to those of the integrated likelihood.
# lme4::glmer(formula = cbind(incidence, size - incidence) ~
# period + (1 | herd), data = dat, family = binomial(link = "probit"), nAGQ = 1)
PROBIT = {
    "fixed": [-0.835477792633266, -0.528033356931361, -0.61688641355028, -0.799563154682147],
    "sd": 0.337992130943147,
    "log_likelihood": -92.6212235384003,
    "away": {
        "theta": [0.437992130943147],
        "beta": [-0.785477792633266, -0.478033356931361, -0.56688641355028, -0.749563154682147],
        "value": 186.590953633808,
    },
}

# lme4 does not estimate the shape of a gamma model by maximum likelihood.
# lme4::glmer(formula = Reaction ~ Days + (1 | Subject), data = dat, family = Gamma(link = "log"))
GAMMA_OF_LME4 = {
    "fixed": [5.53172983602352, 0.0338068130595756],
    "sd": 0.0759647014434007,
    "residual_sd": 0.105401469480366,
    "log_likelihood": -870.404254492036,
}

# Exact second derivatives of the same approximation by another engine's automatic differentiation;
# lme4's finite differences are off by 2.3e-4 in the first two.
VERBAGG_ERRORS = [0.40653346, 0.01683889, 0.19192763, 0.2572833, 0.2594672, 0.21078217]

# ordinal::clmm(rating ~ temp + contact + (1 | judge), data = wine, nAGQ = 1)
# P(Y <= j) = logit^-1(threshold_j - x'beta - u)
WINE = {
    "r_call": (
        "ordinal::clmm(rating ~ temp + contact + (1 | judge), data = wine, nAGQ = 1)"
    ),
    "loader": "load_wine_bitterness",
    "target": "rating",
    "trials": None,
    "columns": {"tempwarm": ("temp", "warm"), "contactyes": ("contact", "yes")},
    "zero_columns": {},
    "groups": ["judge"],
    "thresholds": [-1.62366366583, 1.51336433679, 4.22852480734, 6.0887701411],
    "threshold_errors": [0.682440736, 0.603755684, 0.808969924, 0.972457504],
    "fixed": [3.0629934704, 1.83488336823],
    "standard_errors": [0.595378612, 0.512529713],
    "sd": 1.13113001087463,
    "log_likelihood": -81.5654092921011,
    "levels": ["1", "2", "3", "4", "5", "6", "7", "8", "9"],
    "values": [
        1.69617674, -0.565780799, 0.968807785, -0.059548779, 0.230510739, 0.477038896, -1.91096884,
        -0.272942206, -0.554673574,
    ],
}
