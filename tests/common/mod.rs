//! What the privileged tests and the demo stand on: network namespaces, topologies, traffic, and the
//! program under test as a child process. Everything a test makes is removed when its guard drops.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod delivery;
pub mod dns;
pub mod fanout;
pub mod flight;
pub mod frame;
pub mod harness;
pub mod metrics;
pub mod mode;
pub mod namespace;
pub mod nftables;
pub mod payload;
pub mod receiver;
#[allow(clippy::question_mark, reason = "the derive's code")]
pub mod report;
pub mod sender;
pub mod sys;
pub mod topology;
pub mod wire;
