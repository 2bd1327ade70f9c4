//! `stratafs serve`: HTTP requests, each answered by an instance of its own over a fork of
//! one file system.

mod body;
mod call;
mod client;
mod files;
mod guest;
mod head;
mod in_flight;
mod keep;
mod listen;
mod log;
mod metrics;
mod observe;
mod proxy;
mod record;
mod request;
mod server;
mod sessions;
mod turns;

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::runner::{Guest, InstanceTemplate, Outcome, RunPlan, Runner, RunnerConfig, Stdio};
use stratafs::store::{InUse, Store};
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;

use crate::args::ServeArgs;
use crate::failure::{Failure, complain};
use crate::instances::report_settings;
use crate::parse::{Address, OnEnd};
use crate::pulled::{complete, fetch};
use crate::resolve::{Run, guest_args};
use crate::run::{guest_and_image, open_store, reserve_base, start_volumes};
use crate::signals;

use files::RequestFiles;
use keep::Keeper;
use listen::Clients;
use log::Log;
use proxy::Proxy;
use server::{Bounds, Server};
use turns::Ticks;

/// How long a request may take if `--timeout` does not say.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long the end waits for threads that read or write for a guest that is gone.
const LEAVE: Duration = Duration::from_secs(1);

pub(crate) fn serve(args: ServeArgs, store: Option<&Path>) -> Result<ExitCode, Failure> {
    args.refuse()?;
    take_descriptors();
    let listener = bind(&args.addr)?;
    let observer = args.metrics.as_ref().map(bind).transpose()?;
    let errors = Log::start(io::stderr())?;
    let access_log = args.access_log.as_deref().map(open_log).transpose()?;
    let (stopper, stop) = watch::channel(false);
    signals::instead_of_ending(move || {
        stopper.send_replace(true);
    });
    let logs = (access_log.clone(), errors.clone());
    let (server, _kept) = ready(args, store, logs)?;
    let server = Arc::new(server);
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("serve")
        .build()
        .map_err(|error| Failure::new(format_args!("cannot start threads: {error}")))?;
    let clients = Arc::new(Clients::default());
    let observing = observer
        .map(|observer| listen_on(&runtime, observer))
        .transpose()?;
    let serving = listen_on(&runtime, listener)?;
    let announce = |what: &str, listener: &tokio::net::TcpListener| {
        if let Ok(address) = listener.local_addr() {
            complain(&format!("{what} on http://{address}"));
        }
    };
    announce("listening", &serving);
    if let Some(observing) = observing {
        announce("metrics", &observing);
        let (server, clients) = (Arc::clone(&server), Arc::clone(&clients));
        runtime.spawn(observe::observe(server, clients, observing, stop.clone()));
    }
    runtime.block_on(listen::listen(Arc::clone(&server), clients, serving, stop));
    runtime.block_on(async {
        // Guests may go on after their answers.
        server.in_flight.all_left().await;
        tokio::task::spawn(async move { server.files.end_all() }).await
    })?;
    runtime.shutdown_timeout(LEAVE);
    access_log.iter().for_each(Log::end);
    errors.end();
    Ok(ExitCode::SUCCESS)
}

/// Takes as many descriptors as the system gives for the asking: a connection is one.
fn take_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // With fewer, connections that wait are closed sooner.
        let _: Result<(), _> = setrlimit(Resource::Nofile, limit);
    }
}

/// Takes an address before the work of getting ready, which it may be in vain.
fn bind(address: &Address) -> Result<TcpListener, Failure> {
    let Address { host, port } = address;
    let at =
        |error: io::Error| Failure::new(format_args!("cannot listen at {host}:{port}: {error}"));
    let listener = TcpListener::bind((host.as_str(), *port)).map_err(at)?;
    listener.set_nonblocking(true).map_err(at)?;
    Ok(listener)
}

fn listen_on(runtime: &Runtime, listener: TcpListener) -> Result<tokio::net::TcpListener, Failure> {
    let _inside = runtime.enter();
    Ok(tokio::net::TcpListener::from_std(listener)?)
}

fn open_log(path: &Path) -> Result<Log, Failure> {
    match path.as_os_str() == "-" {
        true => Log::start(io::stdout()),
        false => {
            let opened = File::options().create(true).append(true).open(path);
            Log::start(opened.map_err(|error| Failure::at(path, error))?)
        }
    }
}

/// What lasts as long as requests are answered: what the base takes of the budget, and the images
/// that are in use.
type KeptAlive = (Option<stratafs::budget::Reservation>, Vec<Arc<InUse>>);

/// Reads the base, compiles the guest, and prepares the file system that requests find.
fn ready(
    args: ServeArgs,
    store: Option<&Path>,
    (access_log, errors): (Option<Log>, Log),
) -> Result<(Server, KeptAlive), Failure> {
    let mut run = Run::resolve(args.run)?;
    if let Some(OnEnd::Commit(tag)) = &args.on_end {
        run.commit = Some(tag.clone());
    }
    fetch(&mut run, store)?;
    let opened = open_store(&run, store)?;
    let store = opened.map(|opened| complete(&mut run, opened, store));
    let store = store.transpose()?;
    let pool = ChunkPool::new();
    start_volumes(&mut run, store.as_ref())?;
    let (guest, image) = guest_and_image(&mut run, store.as_ref(), &pool)?;
    run.layers.report_left_out();
    let base = reserve_base(&run, &pool)?;
    run.plan.stdio = Stdio::Lines(Arc::new(errors.clone()));
    let template = template(args.init.as_deref(), &image, &run)?;
    let timeout = run.config.timeout.unwrap_or(TIMEOUT);
    run.config.timeout = Some(timeout);
    run.config.threads = args.max_in_flight;
    let proxy = Proxy::new(&guest, run.config.clone())?;
    if run.verbose {
        let component = &proxy.component;
        let name = run.guest.to_string();
        let how = (component.allocator(), component.cache(), args.max_in_flight);
        report_settings((&name, &run.layers.paths), how, &run.config, &run.plan);
    }
    let ticks = Ticks::start(proxy.component.engine().weak())?;
    let keeper = keeper(args.on_end, store, &run, &errors)?;
    let sessions = (args.session_ttl, args.max_sessions);
    let budget = run.plan.budget.clone();
    let files = RequestFiles::new(template, args.keep, sessions, budget.clone(), keeper);
    let bounds = Bounds {
        timeout,
        client_timeout: args.client_timeout,
        max_body: args.max_body,
        max_in_flight: usize::try_from(args.max_in_flight).unwrap_or(usize::MAX),
    };
    let how = (bounds, run.config.network.clone());
    let server = Server::new((proxy, ticks, files), how, (access_log, errors), budget);
    Ok((server, (base, run.in_use)))
}

/// Prepares the file system: what the base holds, or what a command leaves of that.
fn template(init: Option<&Path>, image: &Image, run: &Run) -> Result<InstanceTemplate, Failure> {
    let plan = run.plan.clone();
    let Some(init) = init else {
        return Ok(InstanceTemplate::new(image, plan, &run.config)?);
    };
    let failed = |why: &str| Failure::new(format_args!("--init {}: {why}", init.display()));
    let config: RunnerConfig = run.config.clone();
    let runner = Runner::new(&Guest::from_file(init)?, config)?;
    let mut first: RunPlan = plan.clone();
    first.args = guest_args(init, std::iter::empty())?;
    first.keep_file_systems = true;
    let mut report = runner.run(image, &first)?;
    match report.instances.first().map(|one| &one.outcome) {
        Some(Outcome::Exited(0)) => {}
        Some(Outcome::Exited(code)) => return Err(failed(&format!("it exited with {code}"))),
        Some(outcome) => return Err(failed(&outcome.to_string())),
        None => return Err(failed("it did not run")),
    }
    let fs = report.file_systems.pop();
    let fs = fs.ok_or_else(|| failed("it left no file system"))?;
    Ok(InstanceTemplate::over(
        fs,
        report.volumes,
        plan,
        &run.config,
    )?)
}

/// Opens what `--on-end` names.
fn keeper(
    on_end: Option<OnEnd>,
    store: Option<Store>,
    run: &Run,
    errors: &Log,
) -> Result<Option<Keeper>, Failure> {
    let by = format!("serve {}", run.plan.args.join(" "));
    match (on_end, store) {
        (None, _) => Ok(None),
        (Some(OnEnd::Diff(dir)), _) => Keeper::diff(&dir, by, errors.clone()).map(Some),
        (Some(OnEnd::Commit(tag)), Some(store)) => {
            let names = (tag, run.base.clone());
            Ok(Some(Keeper::commit(store, names, by, errors.clone())))
        }
        (Some(OnEnd::Commit(_)), None) => Err(Failure::new("--on-end: no store is open")),
    }
}
