//! Files of an instance with tokio's traits.

use std::future::Future;
use std::io::{self, SeekFrom};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use stratafs::errno::Errno;
use stratafs::host::{AsyncFile, OpenOptions};
use stratafs::image::Image;
use stratafs::limits::MAX_ASYNC_FILE_BYTES;
use stratafs::vfs::Fs;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::support::far::{Far, far_image, noise};

fn run<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(work)
}

fn open(fs: &Fs, path: &str) -> AsyncFile {
    let options = OpenOptions::new().read(true).write(true);
    options.open(fs, path).unwrap().into()
}

/// Asks a future once, with a waker that does nothing.
fn once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn reason(error: &io::Error) -> Errno {
    let inner = error.get_ref().unwrap();
    inner.downcast_ref::<stratafs::Error>().unwrap().errno()
}

#[test]
fn a_task_reads_writes_and_seeks_as_std_does() {
    let fs = Fs::new(&Image::empty());
    run(async {
        let mut file = AsyncFile::from(fs.create("/f").unwrap());
        file.write_all(b"hello, world").await.unwrap();
        file.flush().await.unwrap();
        assert_eq!(file.stream_position().await.unwrap(), 12);
        file.shutdown().await.unwrap();
        let mut file = open(&fs, "/f");
        assert_eq!(file.seek(SeekFrom::End(-5)).await.unwrap(), 7);
        let mut text = String::new();
        file.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "world");
        file.seek(SeekFrom::Start(0)).await.unwrap();
        file.write_all(b"J").await.unwrap();
        let error = file.seek(SeekFrom::Current(-9)).await.unwrap_err();
        assert_eq!(
            (error.kind(), reason(&error)),
            (io::ErrorKind::InvalidInput, Errno::Invalid)
        );
        assert!(error.to_string().contains("/f"), "{error}");
        assert_eq!(
            file.stream_position().await.unwrap(),
            1,
            "as before the error"
        );
        assert_eq!(file.file().metadata().unwrap().size, 12);
        // The offset goes along.
        let mut rest = [0; 4];
        io::Read::read_exact(&mut file.into_file(), &mut rest).unwrap();
        assert_eq!(&rest, b"ello");
    });
    assert_eq!(fs.read("/f").unwrap(), b"Jello, world");
}

#[test]
fn appends_and_errors_are_those_of_the_file() {
    let fs = Fs::builder(&Image::empty()).max_bytes(10_000).build();
    fs.write("/f", "12").unwrap();
    run(async {
        let options = OpenOptions::new().append(true);
        let mut file = AsyncFile::from(options.open(&fs, "/f").unwrap());
        file.write_all(b"345").await.unwrap();
        assert_eq!(file.stream_position().await.unwrap(), 5);
        let error = file.read_u8().await.unwrap_err();
        assert_eq!(reason(&error), Errno::BadDescriptor);
        let error = file.write_all(&[b'x'; 20_000]).await.unwrap_err();
        assert_eq!(reason(&error), Errno::NoSpace);
        assert!(error.to_string().starts_with("append to /f"), "{error}");
    });
    assert!(fs.read("/f").unwrap().starts_with(b"12345x"));
}

#[test]
fn one_call_moves_no_more_than_the_bound() {
    let fs = Fs::new(&Image::empty());
    let bytes = vec![7; MAX_ASYNC_FILE_BYTES + 5000];
    run(async {
        let mut file = AsyncFile::from(fs.create("/f").unwrap());
        assert_eq!(file.write(&bytes).await.unwrap(), MAX_ASYNC_FILE_BYTES);
        file.write_all(&bytes[MAX_ASYNC_FILE_BYTES..])
            .await
            .unwrap();
        let mut file = open(&fs, "/f");
        let mut buf = vec![0; bytes.len()];
        let read = file.read(&mut buf).await.unwrap();
        assert!((1..=MAX_ASYNC_FILE_BYTES).contains(&read), "{read}");
        let mut all = buf[..read].to_vec();
        file.read_to_end(&mut all).await.unwrap();
        assert!(all == bytes);
    });
}

#[test]
fn content_that_is_not_here_is_awaited_and_nothing_happens_twice() {
    let bytes = noise(150_000);
    let far = Far::new(&bytes);
    let fs = Fs::new(&far_image(&far));
    far.leave();
    let mut file = open(&fs, "/dir/far");
    let mut buf = [0; 4096];
    {
        // Given up while it waits: the offset is where it was.
        let mut read = pin!(file.read(&mut buf));
        assert!(once(read.as_mut()).is_pending());
        assert!(once(read.as_mut()).is_pending());
    }
    {
        // A write of part of a block needs the rest of it.
        let mut write = pin!(file.write(b"new"));
        assert!(once(write.as_mut()).is_pending());
    }
    assert_eq!(far.asked(), 2, "one for each direction");
    let (read, pieces) = far.serve(|| {
        run(async {
            file.write_all(b"new").await.unwrap();
            file.seek(SeekFrom::Start(0)).await.unwrap();
            let mut all = Vec::new();
            file.read_to_end(&mut all).await.unwrap();
            all
        })
    });
    assert!(pieces > 0);
    assert!(read[..3] == *b"new" && read[3..] == bytes[3..]);
}

#[test]
fn content_that_never_comes_is_an_error() {
    let far = Far::new(&noise(10_000));
    let fs = Fs::new(&far_image(&far));
    far.leave();
    let mut file = open(&fs, "/dir/far");
    let mut buf = [0; 100];
    std::thread::scope(|threads| {
        let read = threads.spawn(|| run(file.read(&mut buf)));
        far.wait_asked();
        far.break_off();
        let error = read.join().unwrap().unwrap_err();
        assert_eq!(reason(&error), Errno::Io);
    });
}
