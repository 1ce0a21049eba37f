"""What R's performance answers for the cases of reference_linear.py.

Made with R 4.2.2, lme4 1.1-31 and performance 0.10.2: `performance::r2_nakagawa(fit)` and
`performance::icc(fit)`. Where a slope is uncorrelated with the intercept, `(1 | g) + (0 + x | g)`,
that version leaves the variance of the slope out of both; those cases are not here.
"""

R_SQUARED = {
    "cake_reml": {
        "marginal": 0.127139935260555,
        "conditional": 0.713227051979157,
        "adjusted": 0.671455987499615,
        "unadjusted": 0.586087116718602,
    },
    "cake_temp_linear_reml": {
        "marginal": 0.11111403226467,
        "conditional": 0.705519194151314,
        "adjusted": 0.668708004696088,
        "unadjusted": 0.594405161886644,
    },
    "chem97_reml": {
        "marginal": 0.424038510710641,
        "conditional": 0.531405769459571,
        "adjusted": 0.186413954310388,
        "unadjusted": 0.10736725874893,
    },
    "dyestuff2_singular_ml": {
        "marginal": 0,
        "conditional": 0,
        "adjusted": 0,
        "unadjusted": 0,
    },
    "dyestuff2_singular_reml": {
        "marginal": 0,
        "conditional": 0,
        "adjusted": 0,
        "unadjusted": 0,
    },
    "dyestuff_ml": {
        "marginal": 0,
        "conditional": 0.361584373292726,
        "adjusted": 0.361584373292726,
        "unadjusted": 0.361584373292726,
    },
    "dyestuff_reml": {
        "marginal": 0,
        "conditional": 0.418487414901394,
        "adjusted": 0.418487414901394,
        "unadjusted": 0.418487414901394,
    },
    "insteval_crossed_reml": {
        "marginal": 0.00119258917833598,
        "conditional": 0.215220374446558,
        "adjusted": 0.214283337257333,
        "unadjusted": 0.214027785268222,
    },
    "machines_interaction_reml": {
        "marginal": 0.467700119379077,
        "conditional": 0.986942234172168,
        "adjusted": 0.975469155069882,
        "unadjusted": 0.519242114793091,
    },
    "machines_reml": {
        "marginal": 0.467700119415017,
        "conditional": 0.986942234171229,
        "adjusted": 0.975469155066462,
        "unadjusted": 0.519242114756212,
    },
    "offset_reml": {
        "marginal": 0.166167734016321,
        "conditional": 0.774079174285759,
        "adjusted": 0.729057227777435,
        "unadjusted": 0.607911440269438,
    },
    "orthodont_crosslevel_ml": {
        "marginal": 0.425000618507442,
        "conditional": 0.798820752178195,
        "adjusted": 0.650122670915588,
        "unadjusted": 0.373820133670753,
    },
    "orthodont_crosslevel_reml": {
        "marginal": 0.409460455666105,
        "conditional": 0.806176878586964,
        "adjusted": 0.671786380314868,
        "unadjusted": 0.396716422920859,
    },
    "pastes_nested_reml": {
        "marginal": 0,
        "conditional": 0.937041363681175,
        "adjusted": 0.937041363681175,
        "unadjusted": 0.937041363681175,
    },
    "penicillin_reml": {
        "marginal": 0,
        "conditional": 0.936336825002302,
        "adjusted": 0.936336825002302,
        "unadjusted": 0.936336825002302,
    },
    "sleepstudy_ml": {
        "marginal": 0.287611500866005,
        "conditional": 0.792763215894787,
        "adjusted": 0.709095831337623,
        "unadjusted": 0.505151715028782,
    },
    "sleepstudy_reml": {
        "marginal": 0.278652033500496,
        "conditional": 0.799218907667592,
        "adjusted": 0.721658475996346,
        "unadjusted": 0.520566874167095,
    },
    "weighted_ml": {
        "marginal": 0.300010142983606,
        "conditional": 0.717388253694358,
        "adjusted": 0.596263083710621,
        "unadjusted": 0.417378110710752,
    },
    "weighted_reml": {
        "marginal": 0.281996263410888,
        "conditional": 0.822782218310158,
        "adjusted": 0.753179861525906,
        "unadjusted": 0.54078595489927,
    },
}
