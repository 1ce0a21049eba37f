"""R squared and intraclass correlation of generalised models as R's performance gives them.

Made with R 4.2.2, lme4 1.1-31, glmmTMB 1.1.5 and performance 0.10.2:

    performance::r2_nakagawa(fit); performance::icc(fit)

for the fits of `reference_generalized.CASES`. The gamma case counts its dispersion as it is (the
delta method), the others by the lognormal approximation. For "grouseticks poisson" performance's
own fit of the model without fixed columns stops early: it is off by 5e-4.
"""

# (marginal, conditional) R squared
R_SQUARED = {
    "cbpp": (0.0854160614518839, 0.187314541743782),
    "verbagg": (0.172562426457503, 0.489277034683436),
    "grouseticks poisson": (0.518617786561049, 0.766868809792192),
    "grouseticks nb2": (0.544929401519536, 0.806450719748604),
    "salamanders nb1": (0.443387630342362, 0.510992549090204),
    "salamanders nb2": (0.534373416803072, 0.623194675589556),
    "sleepstudy gamma": (0.276537463585697, 0.728219163055765),
}

# (adjusted, unadjusted) intraclass correlation of all factors
ICC = {
    "cbpp": (0.111415121124541, 0.101898480291898),
    "verbagg": (0.382765562445984, 0.316714608225934),
    "grouseticks poisson": (0.515704602913472, 0.248251023231142),
}

# cbpp with the probit link
PROBIT = (0.0764716171893479, 0.171157491741045)
