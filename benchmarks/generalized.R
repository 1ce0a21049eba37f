# One fresh R process for generalized models: glmer of lme4 or glmmTMB, without the derivatives
# that standard errors need after the search (glmer then reports those at given covariances).
here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)))
source(file.path(here, "_task.R"))
suppressMessages(library(package, character.only = TRUE))

trials <- NULL
if (length(family) == 2) {
  trials <- data[[family[2]]]
  data$y <- data$y / trials
}
family <- family[1]

fit_lme4 <- function(k)
  quietly(glmer(model, data, family, weights = trials, control = glmerControl(calc.derivs = FALSE)))
fit_glmmTMB <- function(k) quietly(glmmTMB(model, data, family, weights = trials, se = FALSE))

read_lme4 <- function(m) describe(logLik(m), fixef(m), sqrt(diag(as.matrix(vcov(m)))),
                                  m@optinfo$feval, m@optinfo$conv$opt == 0)
read_glmmTMB <- function(m) describe(logLik(m), fixef(m)$cond, NULL,
                                     m$fit$evaluations[["function"]], m$fit$convergence == 0)

if (package == "lme4") {
  measure(fit_lme4, read_lme4, function(m) unlist(m@optinfo$conv$lme4$messages))
} else {
  measure(fit_glmmTMB, read_glmmTMB, function(m) character())
}
