//! The `fanout` program: wiring only.

fn main() {}
