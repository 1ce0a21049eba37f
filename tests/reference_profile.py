"""Profile intervals of 95 % by R, for cases of `reference_linear`.

Made with R 4.2.2 and lme4 1.1-31 on the ML criterion (a REML fit is refitted by ML). Standard
deviations, correlations and sigma by direct constrained optimisation of the deviance and
`uniroot`, since `confint` fails near a boundary; fixed effects by

    confint(profile(fit, devtol = 1e-7, delta.cutoff = 1/16, signames = FALSE), level = 0.95)

whose interpolation moves the ends by up to 1e-4 of the width (`dyestuff2_singular_reml`).
"""

PROFILE_CI_95 = {
    "cake_temp_linear_reml": {
        "sd (Intercept)|recipe:replicate": (5.02349995977136, 7.89869323052008),
        "sigma": (4.15114936158104, 4.99455215323723),
        "(Intercept)": (-5.65427401903665, 8.68602005078385),
        "recipeB": (-6.22975145037519, 3.2741958949804),
        "recipeC": (-6.27419589482001, 3.22975145053598),
        "temp": (0.126184281442443, 0.189879210621056),
    },
    "dyestuff2_singular_reml": {
        "sd (Intercept)|Batch": (0, 2.08404787177718),
        "sigma": (2.89284504261176, 4.81583030438485),
        "(Intercept)": (4.31267495319766, 7.01852542268964),
    },
    "dyestuff_reml": {
        "sd (Intercept)|Batch": (12.196505286001, 84.0634109693415),
        "sigma": (38.2301233112586, 67.6576727885995),
        "(Intercept)": (1486.45150929098, 1568.54849093019),
    },
    "machines_interaction_reml": {
        "sd (Intercept)|Worker:Machine": (2.35284798360831, 5.43153451478491),
        "sd (Intercept)|Worker": (1.95145686443387, 9.41058387186843),
        "sigma": (0.775949305547806, 1.23496574903397),
        "(Intercept)": (47.3951548385824, 57.315956305308),
        "MachineB": (3.73809077551662, 12.1952425650925),
        "MachineC": (9.68809077551667, 18.1452425650925),
    },
    "orthodont_crosslevel_reml": {
        "sd (Intercept)|Subject": (0.00124152552880491, 4.14817821837742),
        "cor age.(Intercept)|Subject": (-1, 1),
        "sd age|Subject": (0, 0.338563196604138),
        "sigma": (1.09703079605505, 1.58838807720123),
        "(Intercept)": (14.3493033312117, 18.3319466711003),
        "age": (0.616238204800657, 0.952511795166273),
        "SexFemale": (-2.08769920678875, 4.15190375155435),
        "age:SexFemale": (-0.568249278121786, -0.0414098128210519),
    },
    "pastes_nested_reml": {
        "sd (Intercept)|batch:cask": (2.15793092412337, 4.05380511830262),
        "sd (Intercept)|batch": (0, 2.94659708206029),
        "sigma": (0.652022889204738, 1.08544755862958),
        "(Intercept)": (58.663648692184, 61.4430179765144),
    },
    "penicillin_reml": {
        "sd (Intercept)|plate": (0.633565186962345, 1.18210332970205),
        "sd (Intercept)|sample": (1.09583147530125, 3.55632239304414),
        "sigma": (0.485845559374348, 0.629453426532854),
        "(Intercept)": (21.2666082264911, 24.6778362155883),
    },
    "sleepstudy_reml": {
        "sd (Intercept)|Subject": (14.3813845203299, 37.71605499316),
        "cor Days.(Intercept)|Subject": (-0.481492580618058, 0.685018968518078),
        "sd Days|Subject": (3.80117728435929, 8.75339198657397),
        "sigma": (22.8982565152047, 28.8579992087445),
        "(Intercept)": (237.680691197691, 265.129518507429),
        "Days": (7.35865228795482, 13.5759196330859),
    },
    "sleepstudy_uncorrelated_reml": {
        "sd (Intercept)|Subject": (15.2587056514274, 37.7865349307928),
        "sd Days|Subject": (3.96407818427223, 8.76915994901703),
        "sigma": (22.8805489058702, 28.7875990135241),
        "(Intercept)": (237.572155655723, 265.238054035348),
        "Days": (7.33406856082571, 13.6005033570321),
    },
}
