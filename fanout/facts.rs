//! What can be known of this host without changing anything on it: for `fanout check`, and to explain why a start
//! failed. Facts only; what they mean is in [`rules`](crate::rules).

pub mod downstream;
pub mod host;
pub mod interface;
pub mod metrics;
pub mod port;
pub mod process;
