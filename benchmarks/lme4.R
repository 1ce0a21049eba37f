# One fresh R process for linear models: lme4's lmer.
here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)))
source(file.path(here, "_task.R"))
suppressMessages(library(lme4))

# For many responses the formula is read once and only the response is replaced, through lme4's
# modular functions: refit() of version 1.1-31 ends at another criterion than lmer() under REML.
parts <- NULL
fit <- function(k) {
  if (outputs == 1) return(quietly(lmer(model, data)))
  if (k == 1) parts <<- lFormula(model, data)
  parts$fr$y <- Y[, k]
  criterion <- quietly(do.call(mkLmerDevfun, parts))
  found <- quietly(optimizeLmer(criterion))
  quietly(mkMerMod(environment(criterion), found, parts$reTrms, fr = parts$fr))
}

read <- function(m) describe(logLik(m), fixef(m), sqrt(diag(as.matrix(vcov(m)))),
                             m@optinfo$feval, m@optinfo$conv$opt == 0)

measure(fit, read, function(m) unlist(m@optinfo$conv$lme4$messages))
