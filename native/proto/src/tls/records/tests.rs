//! What needs to see inside.
