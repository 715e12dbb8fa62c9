//! Counts what one thread of this process allocates and frees.
#![allow(unsafe_code, reason = "an allocator can't be had without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The thread that is watched; 0 for none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static THREAD: Cell<i32> = const { Cell::new(0) };
}

/// How often the thread with this number calls the allocator while `f` runs.
pub fn of_thread<T>(thread: i32, f: impl FnOnce() -> T) -> (u64, T) {
    CALLS.store(0, Relaxed);
    WATCHED.store(thread, Relaxed);
    let value = f();
    WATCHED.store(0, Relaxed);
    (CALLS.load(Relaxed), value)
}

/// The kernel's number of the calling thread.
pub fn this_thread() -> i32 {
    THREAD.with(|thread| {
        if thread.get() == 0 {
            // SAFETY: it takes nothing and can't fail.
            thread.set(unsafe { libc::gettid() });
        }
        thread.get()
    })
}

struct Counting;

impl Counting {
    fn note() {
        let watched = WATCHED.load(Relaxed);
        if watched != 0 && watched == this_thread() {
            CALLS.fetch_add(1, Relaxed);
        }
    }
}

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        Self::note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}
