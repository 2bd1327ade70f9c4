//! Reads and writes through many pieces of memory in one call.
//!
//! Each call serves every piece, in one step: the guest checks that a single
//! `fd_pread` fills them all, that a single `fd_pwrite` takes them all, and
//! that empty pieces and thousands of small ones make no difference.

use guest_examples::preview1::{self as p1, CREAT, Ciovec, Iovec, READ, ROOT, WRITE, done, raw};

fn pwrite(fd: u32, pieces: &[&[u8]], offset: u64) -> p1::Result<usize> {
    let iovecs: Vec<_> = pieces
        .iter()
        .map(|piece| Ciovec {
            buf: piece.as_ptr(),
            len: piece.len(),
        })
        .collect();
    let mut len = 0;
    // SAFETY: the pieces are valid for their lengths.
    let code = unsafe { raw::fd_pwrite(fd, iovecs.as_ptr(), iovecs.len(), offset, &raw mut len) };
    done(code).map(|()| len)
}

fn pread(fd: u32, pieces: &mut [Vec<u8>], offset: u64) -> p1::Result<usize> {
    let iovecs: Vec<_> = pieces
        .iter_mut()
        .map(|piece| Iovec {
            buf: piece.as_mut_ptr(),
            len: piece.len(),
        })
        .collect();
    let mut len = 0;
    // SAFETY: the pieces are valid for their lengths.
    let code = unsafe { raw::fd_pread(fd, iovecs.as_ptr(), iovecs.len(), offset, &raw mut len) };
    done(code).map(|()| len)
}

fn main() {
    let fd = p1::open(ROOT, "iovecs", CREAT, READ | WRITE, 0).unwrap();
    println!(
        "write: {:?}",
        pwrite(fd, &[b"one ", b"", b"two ", b"three"], 0)
    );
    let mut pieces = vec![vec![0; 3], Vec::new(), vec![0; 5], vec![0; 100]];
    println!("read: {:?}", pread(fd, &mut pieces, 0));
    println!(
        "pieces: {:?}",
        pieces
            .iter()
            .map(|piece| String::from_utf8_lossy(&piece[..piece.len().min(5)]).into_owned())
            .collect::<Vec<_>>()
    );

    let big: Vec<u8> = (0..10_000_000u32).map(|at| (at % 253) as u8).collect();
    let parts: Vec<&[u8]> = big.chunks(9_973).collect();
    println!("{} pieces: wrote {:?}", parts.len(), pwrite(fd, &parts, 5));
    let mut pieces: Vec<_> = parts.iter().map(|part| vec![0; part.len()]).collect();
    println!(
        "{} pieces: read {:?}, equal {}",
        pieces.len(),
        pread(fd, &mut pieces, 5),
        pieces.concat() == big
    );
    let small: Vec<&[u8]> = big[..20_000].chunks(1).collect();
    println!(
        "{} pieces of one byte: {:?}",
        small.len(),
        pwrite(fd, &small, 0)
    );

    // Two pieces over one place: the later one wins.
    let mut place = vec![0; 8];
    let at = place.as_mut_ptr();
    let iovecs = [Iovec { buf: at, len: 8 }, Iovec { buf: at, len: 8 }];
    let mut len = 0;
    // SAFETY: both pieces are valid for a write.
    let code = unsafe { raw::fd_pread(fd, iovecs.as_ptr(), 2, 0, &raw mut len) };
    println!("overlapping: {:?}, {len} bytes, {place:?}", done(code));
    println!("none: {:?} {:?}", pwrite(fd, &[], 0), pread(fd, &mut [], 0));
}
