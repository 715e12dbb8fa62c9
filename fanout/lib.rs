//! fanout spreads UDP datagrams over several receivers. This page is its map.
//!
//! The way of a packet, by the files that handle it:
//!
//! ```text
//!            NIC, RX queue q
//!                  │
//!   kernel   XDP program: a listener's, and clean?      fanout-ebpf/src/{xdp,parse}.rs
//!                  │no                     │yes
//!                  ▼                       ▼
//!         the kernel's own stack    RX ring of queue q   xsk/
//!                                          │
//!   worker q                        a batch of frames    worker.rs
//!                                          │ each
//!                                   parse, look up       forward.rs, wire/
//!                                   choose               balance.rs
//!                                   rewrite in place     fanout-ebpf/src/checksum.rs
//!                                          │
//!                  ┌───────────────────────┼───────────────────────┐
//!           TX ring of the          TX ring of another       raw IP socket,
//!           same interface          interface, same UMEM     sendmmsg          worker/raw.rs
//! ```
//!
//! Datagrams of `xdp` and `tc_ebpf` listeners never leave the kernel: the programs look up, choose, rewrite and
//! send. [`in_kernel`] gives them the turns to take, [`xdp`] and [`tc`] say by which ways each can send.
//!
//! The main thread ([`supervisor`]) sets all of this up ([`tuned`], [`interface`], [`af_xdp`], [`bpf`]), decides who
//! is forwarded to ([`roster`]: what the config says, DNS [`names`] answer and [`health`] checks find), asks the
//! kernel for routes and next hops ([`neighbor`], [`link`], over [`netlink`]), looks again when the kernel has news
//! ([`events`]), tells systemd how it is ([`service`]), and leaves a new [`forward::Table`] in each worker's inbox.
//! Workers share nothing that they write; what they count ([`metrics`]), the main thread reads. A listener in
//! userspace mode has workers of its own, and its datagrams another way ([`userspace`]).
//!
//! `fanout check` ([`check`]) looks at the host instead: it gathers [`facts`] and judges them by [`rules`], which
//! also explain why the kernel refused a program at the start.
//!
//! Why it is so: the design's goals are exact round robin on each queue, no loss, and a hot path
//! without allocation, lock, logging, panic, or a system call for each packet.

pub mod af_xdp;
pub mod args;
pub mod balance;
pub mod bpf;
pub mod btf;
pub mod check;
pub mod claim;
pub mod config;
pub mod events;
pub mod facts;
pub mod forward;
pub mod health;
pub mod in_kernel;
pub mod interface;
pub mod link;
pub mod logger;
pub mod mailbox;
pub mod metrics;
pub mod names;
pub mod neighbor;
pub mod netlink;
pub mod roster;
pub mod rules;
pub mod service;
pub mod status;
pub mod supervisor;
#[expect(unsafe_code, reason = "every libc call is wrapped here")]
pub mod sys;
pub mod tc;
pub mod thread;
pub mod tuned;
pub mod userspace;
pub mod wire;
pub mod worker;
pub mod xdp;
pub mod xdp_features;
pub mod xsk;
