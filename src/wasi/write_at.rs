//! Where a guest's write goes, in all versions of WASI.

/// Where a write goes.
#[derive(Clone, Copy)]
pub(in crate::wasi) enum WriteAt {
    /// At this offset.
    Offset(u64),
    /// At the end of the file, wherever that is when the write is made.
    End,
}
