//! The memory allocator of the selfpatch programs.
//!
//! A training step takes and frees the same gigabyte of buffers every time. An allocator that returns
//! large blocks to the system has them cleared page by page at each step; this one (jemalloc) keeps
//! them, and asks for huge pages, which Linux grants where
//! `/sys/kernel/mm/transparent_hugepage/enabled` says `madvise` or `always`. What a process holds is
//! the most that it has needed.
//!
//! A program links it by `use selfpatch_allocator as _;`. Libraries must not. Where jemalloc does not
//! build (MSVC) the system's allocator stays.

#[cfg(not(target_env = "msvc"))]
mod keeping {
    use std::ffi::c_char;

    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    /// Read by jemalloc when it starts; the environment variable `_RJEM_MALLOC_CONF` overrides it.
    /// Never give pages back; huge pages; large blocks in the same arenas as all others.
    #[unsafe(export_name = "_rjem_malloc_conf")]
    static CONF: Conf = Conf(c"dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always,oversize_threshold:0,narenas:1".as_ptr());

    #[repr(transparent)]
    struct Conf(*const c_char);

    // SAFETY: the pointer is to a constant.
    unsafe impl Sync for Conf {}
}
