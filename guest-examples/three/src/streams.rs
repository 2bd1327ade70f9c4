//! Streams of WASI 0.3 as an unfriendly guest uses them.
//!
//! `streams WHAT`: `endless` writes 2^40 bytes; `halves` drops streams and
//! futures half-way; `steps` tells how much one step moves; `cancel` gives up
//! calls that were made; `trap` and `hang` end, or do not end, in the middle
//! of everything; `both` looks at one file through 0.3 and through the 0.2 of
//! Rust's own library; `beside FILE NEAR` begins to read one file, and has made other
//! calls before it waits for the bytes; `read FILE SIZE` reads a file in pieces of that size and
//! says how many bytes, steps and nanoseconds that took.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use guest_examples::check::{arg, number};
use guest_examples::three::wasip3;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip3::wit_bindgen::{FutureReader, StreamResult, StreamWriter, block_on};
use wasip3::wit_stream;

type End = FutureReader<Result<(), ErrorCode>>;

async fn open(dir: &Descriptor, path: &str, how: OpenFlags) -> Descriptor {
    let access = if how == OpenFlags::empty() {
        DescriptorFlags::READ
    } else {
        DescriptorFlags::READ | DescriptorFlags::WRITE
    };
    let path = path.trim_start_matches('/').to_owned();
    let opened = dir.open_at(PathFlags::empty(), path, how, access).await;
    opened.expect("opens")
}

fn writing(file: &Descriptor, offset: u64) -> (StreamWriter<u8>, End) {
    let (data, reader) = wit_stream::new();
    let end = file.write_via_stream(reader, offset);
    (data, end)
}

async fn size(file: &Descriptor) -> u64 {
    file.stat().await.expect("stat").size
}

async fn endless(dir: &Descriptor) {
    let file = open(dir, "endless", OpenFlags::CREATE).await;
    let (mut data, end) = writing(&file, 0);
    let mut piece = vec![7; 1 << 20];
    let mut written = 0_u64;
    while written < 1 << 40 {
        let whole = piece.len();
        let rest = data.write_all(piece).await;
        written += (whole - rest.len()) as u64;
        if !rest.is_empty() {
            break;
        }
        piece = vec![7; 1 << 20];
    }
    drop(data);
    println!("{written} bytes of 2^40, then {:?}", end.await);
    println!("file: {}", size(&file).await);
}

async fn halves(dir: &Descriptor) {
    let big = open(dir, "data/big.bin", OpenFlags::empty()).await;
    let (mut data, end) = big.read_via_stream(0);
    let (result, piece) = data.read(Vec::with_capacity(1000)).await;
    println!("read {result:?} {}", piece.len());
    drop(data);
    println!("the stream dropped: {:?}", end.await);

    let (mut data, end) = big.read_via_stream(0);
    drop(end);
    let mut all = 0;
    loop {
        let (result, piece) = data.read(Vec::with_capacity(1 << 16)).await;
        all += piece.len() as u64;
        if result == StreamResult::Dropped {
            break;
        }
    }
    println!("the future dropped: {}", all == size(&big).await);

    let (data, end) = big.read_via_stream(3);
    drop(data);
    println!("dropped unread: {:?}", end.await);
    drop(big.read_via_stream(5));

    let file = open(dir, "half", OpenFlags::CREATE).await;
    let (mut data, end) = writing(&file, 0);
    let rest = data.write_all(b"first half".to_vec()).await;
    drop(end);
    let (_, piece) = data.write(b" and more".to_vec()).await;
    println!("rest {} and {}", rest.len(), piece.remaining());
    drop(data);
    println!("written: {}", size(&file).await);
    // The descriptor goes before its stream.
    let (mut data, end) = writing(&file, 100);
    drop(file);
    println!("left {}", data.write_all(b"late".to_vec()).await.len());
    drop(data);
    println!("end {:?}", end.await);

    let (mut entries, end) = dir.read_directory();
    println!("an entry: {}", entries.next().await.is_some());
    drop(entries);
    println!("the listing dropped: {:?}", end.await);
}

/// How much one step gives of a file larger than any buffer.
async fn steps(dir: &Descriptor) {
    let file = open(dir, "large", OpenFlags::CREATE).await;
    file.set_size(1 << 30).await.expect("grows");
    let (mut data, _) = file.read_via_stream(0);
    let (result, piece) = data.read(Vec::with_capacity(64 << 20)).await;
    println!("read {result:?} {}", piece.len());
    let (mut data, _) = writing(&file, 0);
    let (result, rest) = data.write(vec![1; 3 << 20]).await;
    println!("write {result:?} {}", (3 << 20) - rest.remaining());
}

/// Starts calls and gives them up at once: what went through is a prefix.
async fn cancel(dir: &Descriptor) {
    let file = open(dir, "given-up", OpenFlags::CREATE).await;
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let (mut data, end) = writing(&file, 0);
    {
        let mut call = pin!(data.write(bytes.clone()));
        let polled = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        if polled.is_pending() {
            call.cancel();
        }
    }
    drop(data);
    let end = end.await;
    let (mut data, _) = file.read_via_stream(0);
    let mut all = Vec::new();
    loop {
        let (result, piece) = data.read(Vec::with_capacity(1 << 17)).await;
        all.extend(piece);
        if result == StreamResult::Dropped {
            break;
        }
    }
    println!("a prefix: {} {end:?}", bytes.starts_with(&all));
    let (mut data, end) = file.read_via_stream(0);
    {
        let mut call = pin!(data.read(Vec::with_capacity(10)));
        let polled = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        if polled.is_pending() {
            call.cancel();
        }
    }
    drop(data);
    println!("a read given up: {:?}", end.await);
    // A call that is dropped before it is waited for.
    drop(dir.create_directory_at("never".to_owned()));
    println!("still there: {}", file.sync().await.is_ok());
}

/// Leaves everything open, in the middle.
async fn middle(dir: &Descriptor, hang: bool) {
    let file = open(dir, "middle", OpenFlags::CREATE).await;
    let (mut data, _end) = writing(&file, 0);
    data.write_all(vec![1; 200_000]).await;
    let (mut reading, _end) = file.read_via_stream(0);
    reading.read(Vec::with_capacity(10)).await;
    let (mut entries, _end) = dir.read_directory();
    entries.next().await;
    println!("in the middle");
    if hang {
        // Nobody writes into this stream.
        let (_writer, mut never) = wit_stream::new::<u8>();
        never.next().await;
    }
    std::process::abort();
}

/// What one version of WASI does, the other sees.
async fn both(dir: &Descriptor) {
    let file = open(dir, "both", OpenFlags::CREATE).await;
    let (mut data, end) = writing(&file, 0);
    data.write_all(b"by 0.3".to_vec()).await;
    drop(data);
    end.await.expect("written");
    println!("0.2 reads {:?}", std::fs::read_to_string("/both"));
    let hash = file.metadata_hash().await.expect("a hash").lower;
    // SAFETY: all-zero bytes are a value of this struct of integers.
    let mut raw: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the string ends in NUL, the pointer is valid for a write.
    let code = unsafe { libc::stat(c"/both".as_ptr(), &raw mut raw) };
    println!("one number: {code} {}", raw.st_ino == hash);
    std::fs::write("/both", "by 0.2").expect("written");
    let (mut data, _) = file.read_via_stream(3);
    let (_, bytes) = data.read(Vec::with_capacity(100)).await;
    println!("0.3 reads {:?}", String::from_utf8_lossy(&bytes));
    std::fs::remove_file("/both").expect("removed");
    let left = file.stat().await.expect("stat");
    println!("{} names left", left.link_count);
}

async fn read(dir: &Descriptor, path: &str, piece: usize) {
    let file = open(dir, path, OpenFlags::empty()).await;
    let start = Instant::now();
    let (mut data, end) = file.read_via_stream(0);
    let (mut bytes, mut steps) = (0, 0);
    let mut buf = Vec::with_capacity(piece);
    loop {
        let result;
        (result, buf) = data.read(buf).await;
        (bytes, steps) = (bytes + buf.len(), steps + 1);
        buf.clear();
        if result == StreamResult::Dropped {
            break;
        }
    }
    end.await.expect("reads to the end");
    println!("{bytes} {steps} {}", start.elapsed().as_nanos());
}

/// Begins to read a file, makes other calls while its bytes are on their way, and goes on.
async fn beside(dir: &Descriptor, far: &str, near: &str) {
    let file = open(dir, far, OpenFlags::empty()).await;
    let (mut data, end) = file.read_via_stream(0);
    let mut bytes = 0;
    {
        let mut call = pin!(data.read(Vec::with_capacity(1 << 16)));
        let polled = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        println!("the stream is pending: {}", polled.is_pending());
        let near = open(dir, near, OpenFlags::empty()).await;
        println!("meanwhile: {} bytes", size(&near).await);
        open(dir, "meanwhile", OpenFlags::CREATE).await;
        let (_, first) = match polled {
            Poll::Ready(first) => first,
            Poll::Pending => call.await,
        };
        bytes += first.len();
    }
    loop {
        let (result, piece) = data.read(Vec::with_capacity(1 << 16)).await;
        bytes += piece.len();
        if result == StreamResult::Dropped {
            break;
        }
    }
    println!("then: {bytes} bytes {:?}", end.await);
}

fn main() {
    block_on(async {
        let (dir, _) = get_directories().into_iter().next().expect("a directory");
        match arg(1, "halves").as_str() {
            "both" => both(&dir).await,
            "endless" => endless(&dir).await,
            "halves" => halves(&dir).await,
            "steps" => steps(&dir).await,
            "cancel" => cancel(&dir).await,
            "beside" => beside(&dir, &arg(2, "/far"), &arg(3, "/near")).await,
            "trap" => middle(&dir, false).await,
            "hang" => middle(&dir, true).await,
            "read" => read(&dir, &arg(2, "/big"), number(3, 1 << 16) as usize).await,
            other => panic!("{other}?"),
        }
    });
}

guest_examples::command!(main);
