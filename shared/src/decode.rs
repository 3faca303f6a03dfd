//! From a JSON payload to rows, by a plan that the catalog compiles once.
