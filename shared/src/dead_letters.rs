//! Records and rows that cannot be written as they are.
