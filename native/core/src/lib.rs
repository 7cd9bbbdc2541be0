//! Connection store.
