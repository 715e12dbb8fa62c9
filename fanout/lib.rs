//! fanout spreads UDP datagrams over several receivers.

pub mod args;
pub mod balance;
pub mod bpf;
pub mod config;
pub mod events;
pub mod forward;
pub mod link;
pub mod logger;
pub mod metrics;
pub mod neighbor;
pub mod netlink;
#[expect(unsafe_code, reason = "every libc call is wrapped here")]
pub mod sys;
pub mod wire;
pub mod xsk;
