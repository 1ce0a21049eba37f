# What the R scripts share: read a task from binary columns, time its fits, write the results.
# Rscript SCRIPT PACKAGE FOLDER SECONDS RESULT
options(error = quote({  # all of it in the last line, which is the one that is kept
  cat(gsub("\\s+", " ", geterrmessage()), "\n", file = stderr())
  quit(status = 1)
}))
arguments <- commandArgs(trailingOnly = TRUE)
package <- arguments[1]
folder <- arguments[2]
budget <- as.numeric(arguments[3])

number <- function(x) ifelse(is.finite(x), sprintf("%.17g", x), "null")
array <- function(x) paste0("[", paste(number(x), collapse = ","), "]")
text <- function(x) paste0('"', gsub('[\\\\"\n]', " ", paste(x, collapse = "; ")), '"')
quietly <- function(expr) suppressWarnings(suppressMessages(expr))

binary <- function(name, count, what = "double")
  readBin(file.path(folder, name), what, n = count, size = if (what == "double") 8 else 4)

# Rows, responses, formula, family and perhaps the column of trials, then "kind name" by column.
spec <- readLines(file.path(folder, "spec.txt"))
rows <- as.integer(spec[1])
outputs <- as.integer(spec[2])
model <- as.formula(spec[3])
family <- strsplit(spec[4], " ")[[1]]
data <- list()
for (line in strsplit(spec[-(1:4)], " ")) {
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
  list(wall = as.numeric(difftime(Sys.time(), wall, units = "secs")),
       cpu = sum((proc.time() - cpu)[1:2]), value = value)
}

describe <- function(loglik, beta, se, evaluations, converged) {
  paste0('{"loglik":', number(as.numeric(loglik)), ',"beta":', array(beta),
         ',"se":', if (is.null(se)) "null" else array(se), ',"evaluations":', number(evaluations),
         ',"converged":', if (converged) "true" else "false", "}")
}

# Fit response 1, 2, ... until the time is used; `read` turns a fit into text by describe(), and
# `complaints` gives what the package says of the first one.
measure <- function(fit, read, complaints) {
  invisible(gc())
  try(cat("5", file = "/proc/self/clear_refs"), silent = TRUE)
  base <- memory("VmRSS")
  if (outputs > 1) invisible(fit(1))  # warm up, since the first fit counts
  start <- Sys.time()
  one <- timed(function() fit(1))
  peak <- memory("VmHWM")
  messages <- complaints(one$value)
  walls <- one$wall
  cpus <- one$cpu
  found <- read(one$value)
  spent <- function() as.numeric(difftime(Sys.time(), start, units = "secs"))
  k <- 1
  while (spent() + walls[length(walls)] < budget && length(walls) < 1000) {
    if (outputs > 1 && k == outputs) break
    k <- k + 1
    one <- timed(function() fit(k))
    if (outputs > 1 && k <= 50) found <- c(found, read(one$value))
    walls <- c(walls, one$wall)
    cpus <- c(cpus, one$cpu)
  }
  writeLines(paste0(
    '{"status":"ok","version":', text(as.character(packageVersion(sub("-.*", "", package)))),
    ',"walls":', array(walls), ',"cpus":', array(cpus), ',"base_mb":', number(base),
    ',"peak_mb":', number(peak - base), ',"joint":false,"note":', text(messages),
    ',"fits":[', paste(found, collapse = ","), "]}"), arguments[4])
}
