//! Mapping files. One of three places with unsafe code.
//!
//! What is mapped is never written again once it has its name. Somebody else
//! may still cut it short, and then touching what is gone raises SIGBUS. So on
//! Unix a handler answers for addresses in our mappings, and only for those:
//! it lays zeros over the page and marks the mapping as cut, which its readers
//! ask after they have read. Any other fault goes to the handler that was there
//! before. Windows lets nobody cut a mapped file short.

#![allow(
    unsafe_code,
    reason = "mapping files and catching their faults needs it"
)]

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use memmap2::Mmap;

/// A mapped file.
pub(super) struct Mapped {
    pub(super) bytes: Bytes,
    /// Set once the file turned out to be shorter than it was.
    pub(super) cut: Arc<AtomicBool>,
}

/// A mapping, watched for as long as it is there.
struct Watched {
    /// First, so that it goes before the addresses may be another's.
    #[cfg(unix)]
    _registration: fault::Registration,
    map: Mmap,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// Maps a whole file for reading.
pub(super) fn map(file: &File) -> io::Result<Mapped> {
    // SAFETY: neither this process nor another one of ours writes to the file:
    // it was complete before it got its name. Somebody else's write can change
    // what is read while it is read; the bytes are only ever taken as integers
    // and as bytes, of which every value is valid, and every block is held
    // against its digest.
    let map = unsafe { Mmap::map(file)? };
    let cut = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    {
        let watched = Watched {
            _registration: fault::register(&map, &cut)?,
            map,
        };
        let bytes = Bytes::from_owner(watched);
        Ok(Mapped { bytes, cut })
    }
    #[cfg(not(unix))]
    {
        let bytes = Bytes::from_owner(Watched { map });
        Ok(Mapped { bytes, cut })
    }
}

#[cfg(unix)]
mod fault {
    //! The handler of SIGBUS.

    use std::io;
    use std::mem::MaybeUninit;
    use std::ptr;
    use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
    use std::sync::{Arc, OnceLock};

    /// A mapping, as the handler finds it. A slot is free while `start` is 0.
    struct MappingSlot {
        start: AtomicUsize,
        end: AtomicUsize,
        /// The mark of the mapping; a count of it is held while it is here.
        cut: AtomicPtr<AtomicBool>,
    }

    /// Slots in one block.
    const SLOTS: usize = 256;

    /// Slots, and the block that follows once all are in use. A block that was
    /// added stays for the rest of the process: a handler may be looking at it.
    struct SlotBlock {
        slots: [MappingSlot; SLOTS],
        next: AtomicPtr<SlotBlock>,
    }

    impl SlotBlock {
        const fn new() -> Self {
            Self {
                slots: [const {
                    MappingSlot {
                        start: AtomicUsize::new(0),
                        end: AtomicUsize::new(0),
                        cut: AtomicPtr::new(ptr::null_mut()),
                    }
                }; SLOTS],
                next: AtomicPtr::new(ptr::null_mut()),
            }
        }

        fn next(&self) -> Option<&'static Self> {
            // SAFETY: it is null, or a block that `follow` leaked.
            unsafe { self.next.load(Ordering::Acquire).as_ref() }
        }

        /// Returns the block that follows, added now if there is none.
        fn follow(&self) -> &'static Self {
            loop {
                if let Some(next) = self.next() {
                    return next;
                }
                let added = Box::into_raw(Box::new(Self::new()));
                let put = self.next.compare_exchange(
                    ptr::null_mut(),
                    added,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
                if put.is_err() {
                    // SAFETY: it came from a box just now, and nobody else has it.
                    drop(unsafe { Box::from_raw(added) });
                }
            }
        }
    }

    static FIRST: SlotBlock = SlotBlock::new();

    /// Stands in `start` while a slot is being filled: no address of a page.
    const TAKEN: usize = 1;

    /// What handled SIGBUS before, and the bytes of a page. Written before the
    /// handler is put in, and never again.
    static BEFORE: OnceLock<(Action, usize)> = OnceLock::new();

    struct Action(libc::sigaction);

    // SAFETY: an action is plain data: a function's address, flags, a mask.
    unsafe impl Send for Action {}
    // SAFETY: as above; it is only read.
    unsafe impl Sync for Action {}

    /// A slot that is in use.
    pub(super) struct Registration(&'static MappingSlot);

    /// Watches a mapping.
    pub(super) fn register(bytes: &[u8], cut: &Arc<AtomicBool>) -> io::Result<Registration> {
        install()?;
        let free = |slot: &&MappingSlot| {
            let taken = slot
                .start
                .compare_exchange(0, TAKEN, Ordering::AcqRel, Ordering::Relaxed);
            taken.is_ok()
        };
        let mut block = &FIRST;
        let slot = loop {
            match block.slots.iter().find(free) {
                Some(slot) => break slot,
                None => block = block.follow(),
            }
        };
        let range = bytes.as_ptr_range();
        slot.end.store(range.end.addr(), Ordering::Release);
        let mark = Arc::into_raw(Arc::clone(cut));
        slot.cut.store(mark.cast_mut(), Ordering::Release);
        slot.start.store(range.start.addr(), Ordering::Release);
        Ok(Registration(slot))
    }

    impl Drop for Registration {
        fn drop(&mut self) {
            self.0.end.store(0, Ordering::Release);
            let mark = self.0.cut.swap(ptr::null_mut(), Ordering::AcqRel);
            self.0.start.store(0, Ordering::Release);
            if !mark.is_null() {
                // SAFETY: it came from `Arc::into_raw` in `watch`, and the swap
                // gave it to nobody else. The handler only uses the mark of a
                // mapping that is being read, and this one no longer is.
                drop(unsafe { Arc::from_raw(mark.cast_const()) });
            }
        }
    }

    /// Puts the handler in, once.
    fn install() -> io::Result<()> {
        static DONE: parking_lot::Mutex<bool> = parking_lot::Mutex::new(false);
        let mut done = DONE.lock();
        if *done {
            return Ok(());
        }
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(|_| io::Error::last_os_error())?;
        let mut before = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: a null action changes nothing; the old one is written whole
        // if the call succeeds.
        let before = unsafe {
            if libc::sigaction(libc::SIGBUS, ptr::null(), before.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            before.assume_init()
        };
        BEFORE.get_or_init(|| (Action(before), page));
        // SAFETY: zeros are a valid action; the handler has the signature that
        // SA_SIGINFO asks for and does nothing that a handler may not.
        let put = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut())
        };
        if put != 0 {
            return Err(io::Error::last_os_error());
        }
        *done = true;
        Ok(())
    }

    /// Answers a fault. Runs on the thread that made it, in the middle of a
    /// read: atomics and system calls only.
    extern "C" fn on_fault(
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) {
        // SAFETY: the kernel passes a valid `siginfo_t` to such a handler.
        let address = unsafe { (*info).si_addr() }.addr();
        let mut block = Some(&FIRST);
        while let Some(at) = block {
            if at.slots.iter().any(|slot| zero_page(slot, address)) {
                return;
            }
            block = at.next();
        }
        pass_on(signal, info, context);
    }

    /// Lays zeros over the page of `address` if it is in the slot's mapping.
    fn zero_page(slot: &MappingSlot, address: usize) -> bool {
        let Some((_, page)) = BEFORE.get() else {
            return false;
        };
        let start = slot.start.load(Ordering::Acquire);
        let end = slot.end.load(Ordering::Acquire);
        let mark = slot.cut.load(Ordering::Acquire);
        if start <= TAKEN || !(start..end).contains(&address) || mark.is_null() {
            return false;
        }
        // The slot may have changed hands between the loads.
        if slot.start.load(Ordering::Acquire) != start {
            return false;
        }
        let at = address & !(page - 1);
        // SAFETY: the page lies in a mapping of ours, which is alive since
        // somebody is reading it, and which nobody writes to; readable zeros in
        // its place are as good to read as a file's bytes. The mark is alive
        // as long as the mapping.
        unsafe {
            let zeros = libc::mmap(
                ptr::with_exposed_provenance_mut(at),
                *page,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED,
                -1,
                0,
            );
            if zeros == libc::MAP_FAILED {
                return false;
            }
            (*mark).store(true, Ordering::Release);
        }
        true
    }

    /// Does what would have been done without this handler.
    fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        let Some((Action(before), _)) = BEFORE.get() else {
            return;
        };
        let handler = before.sa_sigaction;
        if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
            // The fault is raised again on return, and nobody catches it.
            // SAFETY: puts back the action that the kernel gave us.
            unsafe { libc::sigaction(signal, before, ptr::null_mut()) };
        } else if before.sa_flags & libc::SA_SIGINFO != 0 {
            // SAFETY: the kernel would call it so: it was put in with this flag.
            unsafe {
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
        } else {
            // SAFETY: as above, without the flag.
            unsafe {
                let handler: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}
