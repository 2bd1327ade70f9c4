//! The socket of the snapshotter: bound so that its owner alone reaches it, and answered until the program
//! is told to end.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::fs::Mode;
use stratafs::name::show_path;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::service::answer;
use super::snapshots::Snapshots;
use crate::failure::{Failure, complain};
use crate::limits::MAX_SNAPSHOT_CONNECTIONS;
use crate::signals;

/// How long calls that are in progress may take once the program is told to end.
const LAST_CALLS_PATIENCE: Duration = Duration::from_secs(10);

/// How long accepting rests when the system has no descriptor left.
const REST: Duration = Duration::from_millis(50);

/// A socket that is bound.
pub(super) struct ReadySocket {
    listener: UnixListener,
    name: SocketName,
}

/// The name of a socket, which goes with whoever bound it.
struct SocketName(PathBuf);

impl Drop for SocketName {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

impl ReadySocket {
    /// Binds a socket; one that nobody answers any more goes.
    pub(super) fn bind(path: &Path) -> Result<Self, Failure> {
        let said = |error: io::Error| Failure::at(path, error);
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::create_dir_all(dir).map_err(|error| Failure::at(dir, error))?;
        }
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(said(error)),
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(Failure::at(path, "it is there, and is not a socket"));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(Failure::at(path, "another process answers there"));
            }
            Ok(_) => fs::remove_file(path).map_err(said)?,
        }
        // Whoever reaches it decides what containers are made of.
        let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.map_err(said)?;
        let name = SocketName(path.to_owned());
        listener.set_nonblocking(true).map_err(said)?;
        Ok(Self { listener, name })
    }

    /// Answers all who connect until the program is told to end, and what they have asked by then.
    pub(super) fn answer(self, snapshots: Arc<Snapshots>) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let (stop, stopped) = watch::channel(false);
        signals::instead_of_ending(move || {
            let _nobody_waits = stop.send(true);
        });
        complain(&format!("listening on {}", show_path(&self.name.0)));
        let served = runtime.block_on(self.accept(snapshots, stopped));
        // A pull that nobody waits for any more does not hold the end up.
        runtime.shutdown_background();
        served
    }

    async fn accept(
        self,
        snapshots: Arc<Snapshots>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        let Self { listener, name } = self;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let room = Arc::new(Semaphore::new(MAX_SNAPSHOT_CONNECTIONS));
        let mut tasks = JoinSet::new();
        loop {
            let pass = Arc::clone(&room).acquire_owned().await?;
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                Some(_) = tasks.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(REST).await;
                continue;
            };
            let (snapshots, stop) = (Arc::clone(&snapshots), stop.clone());
            tasks.spawn(async move {
                connection(TokioIo::new(stream), snapshots, stop).await;
                drop(pass);
            });
        }
        drop(listener);
        drop(name);
        let last = async { while tasks.join_next().await.is_some() {} };
        let _bounded = tokio::time::timeout(LAST_CALLS_PATIENCE, last).await;
        Ok(())
    }
}

async fn connection(
    io: TokioIo<tokio::net::UnixStream>,
    snapshots: Arc<Snapshots>,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| answer(Arc::clone(&snapshots), request));
    let mut server = http2::Builder::new(TokioExecutor::new());
    server.timer(TokioTimer::new());
    let mut connection = pin!(server.serve_connection(io, service));
    tokio::select! {
        // Whoever leaves or talks nonsense is let go.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}
