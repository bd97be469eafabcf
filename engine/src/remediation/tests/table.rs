//! What each step does about each kind of failure, row by row.
