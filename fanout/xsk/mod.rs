//! AF_XDP by hand: memory, rings, sockets, over libc alone (`Documentation/networking/af_xdp.rst`).
//!
//! Who owns which ring, and the way of a frame. Each arrow is a ring; the worker is the one
//! producer or consumer on its end, the kernel on the other.
//!
//! ```text
//!            ┌──────────── fill ───────────▶┐                       ┌─▶ rx ──▶┐
//!   Umem ────┤                              kernel: queue q of ens5 ┤         ├──▶ worker q
//!   (free)   └◀──┬──── completion ◀─────────┘◀── tx ◀──────────────────────────┤    in hand
//!                │                                                            │
//!                └──── completion ◀── kernel: a queue of cni0 ◀── tx ◀────────┘
//!                      (a socket that only transmits, from the same UMEM)
//! ```
//!
//! free + fill + rx + tx + completion + in hand = [`FRAMES`](umem::FRAMES), always.

mod mmap;
mod ring;
pub mod socket;
pub mod umem;
