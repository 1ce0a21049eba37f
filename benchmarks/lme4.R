# One fresh R process: read a task from binary columns, fit with lme4, write times and results.
# Rscript lme4.R FOLDER SECONDS RESULT
suppressMessages(library(lme4))

arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
budget <- as.numeric(arguments[2])

number <- function(x) ifelse(is.finite(x), sprintf("%.17g", x), "null")
array <- function(x) paste0("[", paste(number(x), collapse = ","), "]")
text <- function(x) paste0('"', gsub('[\\\\"\n]', " ", paste(x, collapse = "; ")), '"')

binary <- function(name, count, what = "double")
  readBin(file.path(folder, name), what, n = count, size = if (what == "double") 8 else 4)

spec <- readLines(file.path(folder, "spec.txt"))  # rows, responses, formula, then "kind name"
rows <- as.integer(spec[1])
outputs <- as.integer(spec[2])
model <- as.formula(spec[3])
data <- list()
for (line in strsplit(spec[-(1:3)], " ")) {
  data[[line[2]]] <- if (line[1] == "factor") factor(binary(line[2], rows, "integer"))
                     else binary(line[2], rows)
}
Y <- matrix(binary("response", rows * outputs), nrow = rows)
data$y <- Y[, 1]
data <- as.data.frame(data)

memory <- function(field) {
  status <- tryCatch(readLines("/proc/self/status"), error = function(e) character())
  as.numeric(gsub("[^0-9]", "", grep(field, status, value = TRUE)[1])) / 1024
}

timed <- function(call) {
  cpu <- proc.time()
  wall <- Sys.time()
  value <- call()
  c(wall = as.numeric(difftime(Sys.time(), wall, units = "secs")),
    cpu = sum((proc.time() - cpu)[1:2]), value = value)
}

describe <- function(m) {
  paste0('{"loglik":', number(as.numeric(logLik(m))), ',"beta":', array(fixef(m)),
         ',"se":', array(sqrt(diag(as.matrix(vcov(m))))),
         ',"evaluations":', number(m@optinfo$feval),
         ',"converged":', if (m@optinfo$conv$opt == 0) "true" else "false", "}")
}

# For many responses the formula is read once and only the response is replaced, through lme4's
# modular functions: refit() of version 1.1-31 ends at another criterion than lmer() under REML.
parts <- NULL
quietly <- function(expr) suppressWarnings(suppressMessages(expr))
fit <- function(k) {
  if (outputs == 1) return(quietly(lmer(model, data)))
  if (k == 1) parts <<- lFormula(model, data)
  parts$fr$y <- Y[, k]
  criterion <- quietly(do.call(mkLmerDevfun, parts))
  found <- quietly(optimizeLmer(criterion))
  quietly(mkMerMod(environment(criterion), found, parts$reTrms, fr = parts$fr))
}

invisible(gc())
try(cat("5", file = "/proc/self/clear_refs"), silent = TRUE)
base <- memory("VmRSS")
if (outputs > 1) invisible(fit(1))  # warm up, since the first fit counts
start <- Sys.time()
one <- timed(function() fit(1))
first <- one$value
peak <- memory("VmHWM")
messages <- unlist(first@optinfo$conv$lme4$messages)
walls <- one$wall
cpus <- one$cpu
found <- describe(first)
spent <- function() as.numeric(difftime(Sys.time(), start, units = "secs"))
k <- 1
while (spent() + walls[length(walls)] < budget && length(walls) < 1000) {
  if (outputs > 1 && k == outputs) break
  k <- k + 1
  one <- timed(function() fit(k))
  if (outputs > 1 && k <= 50) found <- c(found, describe(one$value))
  walls <- c(walls, one$wall)
  cpus <- c(cpus, one$cpu)
}
writeLines(paste0(
  '{"status":"ok","version":', text(as.character(packageVersion("lme4"))),
  ',"walls":', array(walls), ',"cpus":', array(cpus), ',"base_mb":', number(base),
  ',"peak_mb":', number(peak - base), ',"joint":false,"note":', text(messages),
  ',"fits":[', paste(found, collapse = ","), "]}"), arguments[3])
