//! fanout spreads UDP datagrams over several receivers.

pub mod args;
pub mod balance;
pub mod config;
pub mod forward;
pub mod logger;
pub mod metrics;
pub mod wire;
