//! fanout spreads UDP datagrams over several receivers.

pub mod args;
pub mod config;
pub mod logger;
pub mod metrics;
