//! What the eBPF programs and user space share: the maps' keys and values, the Internet checksum,
//! and the parser. `no_std`, no allocation, no dependency; tested on the host like any other crate.
#![no_std]

pub mod abi;
pub mod checksum;
pub mod parse;

#[cfg(test)]
extern crate std;
