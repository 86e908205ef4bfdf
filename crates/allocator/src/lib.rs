//! The memory allocator of the selfpatch programs.
//!
//! Every training step allocates and frees the same gigabyte of buffers. If an allocator returns large blocks to the
//! system, the kernel clears them page by page at each step; this one (jemalloc) keeps them, and asks for huge pages,
//! which Linux grants if `/sys/kernel/mm/transparent_hugepage/enabled` says `madvise` or `always`. A process
//! therefore holds as much memory as it has ever needed.
//!
//! A program links the allocator by `use selfpatch_allocator as _;`. Libraries must not. On targets for which
//! jemalloc does not build (MSVC) the system's allocator stays.

#[cfg(not(target_env = "msvc"))]
mod keeping {
    use std::ffi::c_char;

    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    /// Settings that jemalloc reads when it starts: never return pages; use huge pages; keep large blocks in the same
    /// arenas as all others. The environment variable `_RJEM_MALLOC_CONF` overrides them.
    #[unsafe(export_name = "_rjem_malloc_conf")]
    static CONF: Conf = Conf(c"dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always,oversize_threshold:0,narenas:1".as_ptr());

    #[repr(transparent)]
    struct Conf(*const c_char);

    // SAFETY: the pointer is to a constant.
    unsafe impl Sync for Conf {}
}
