//! Locum.
fn main() {}
