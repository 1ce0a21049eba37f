"""Nonlinear mixed models: y = structure(link(C beta + B eta)) + error, eta ~ N(0, Omega).

What an estimator needs, each in the file of its name:

data.Data                           the observations, the designs C and B, links, kinds of error
parameters.Parameters, Pattern      beta, Omega and sigma; which entries of Omega are free or tied
methods.Method                      "fo", "foce", "focei", "laplace" or "agq" with its nodes
fit.fit                             estimate; returns a Fit
standard_errors.standard_errors     of a Fit: sandwich, hessian or outer products
conditional.condition               modes, covariance and parameters of any subjects, new ones too
conditional.residuals, shrinkage    predictions, weighted and conditional weighted residuals
discrepancies, simulate             normalised prediction discrepancies; new observations
sampling.importance_sampling        -2 log L without linearisation, with its Monte Carlo error
saem.saem, importance.sample_likelihood
                                    stochastic approximation EM, and -2 log L around its draws
lindstrom.alternate                 least squares and linear mixed models in turn
objective.laplace, first_order.first_order, quadrature.quadrature
                                    one evaluation of -2 log L by subject, with its exact gradient
modes.find_modes                    the modes at a point.Point, a record at its parameters
kinds.names                         what the entries of sigma are
derivatives.predict, natural        predictions; the natural scale of phi

-2 log L is without n log 2 pi, as NONMEM reports it. Everything is computed in u with eta = L u and
Omega = L L', so that a variance may be zero. The search is for theta, `parameters.Search`.
"""
