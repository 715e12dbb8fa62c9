//! What the eBPF programs and user space share: the maps' keys and values, the Internet checksum,
//! and what reads and rewrites a frame. `no_std`, no allocation, no dependency; tested on the host like any other
//! crate.
#![no_std]

pub mod abi;
pub mod checksum;
pub mod frame;
pub mod parse;
pub mod plain;
pub mod rewrite;
pub mod sender;
pub mod size;
pub mod words;

#[cfg(test)]
extern crate std;
