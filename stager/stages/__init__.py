"""One verb a module: a value in, a value out; no stage imports a stage."""
