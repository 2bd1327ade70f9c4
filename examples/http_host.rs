//! Answers HTTP requests with a component (the world `wasi:http/proxy` of 0.2): each has its own
//! instance, and a fork of one file system that the host has prepared.
//!
//! `cargo run --release --example http_host -- GUEST.wasm`, then `curl http://127.0.0.1:8080/`

use std::{sync::Arc, time::Duration};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use stratafs::image::Image;
use stratafs::runner::{Guest, GuestDir, HostedComponent, HostedState, InstanceTemplate};
use stratafs::runner::{RunPlan, RunnerConfig};
use stratafs::wasi::{StratafsCtx, StratafsView};
use stratafs::{vfs::Rights, wasmtime::Result};
use wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::{ProxyPre, http::types::Scheme};
use wasmtime_wasi_http::p2::{add_only_http_to_linker_async, body::HyperOutgoingBody};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView, io::TokioIo};

const TIMEOUT: Duration = Duration::from_secs(10);

/// What one request has: WASI with its directories, and wasi:http.
struct Data(HostedState, WasiHttpCtx);

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.0.ctx()
    }
}

impl StratafsView for Data {
    fn stratafs(&mut self) -> &mut StratafsCtx {
        self.0.stratafs()
    }
}

impl WasiHttpView for Data {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let (table, hooks) = (self.0.ctx().table, Default::default());
        let ctx = &mut self.1;
        WasiHttpCtxView { hooks, table, ctx }
    }
}

type Server = Arc<(HostedComponent, ProxyPre<Data>, InstanceTemplate)>;

async fn answer(server: Server, request: Request<Incoming>) -> Result<Response<HyperOutgoingBody>> {
    let (component, _, template) = &*server;
    let fs = template.fork(); // what this request writes goes with it
    let mut store = component.store(Data(template.state(&fs, 0)?, WasiHttpCtx::new()));
    store.limiter(|data| data.0.limiter());
    let (sender, answer) = tokio::sync::oneshot::channel();
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam(sender)?;
    tokio::spawn(tokio::time::timeout(TIMEOUT, async move {
        let proxy = server.1.instantiate_async(&mut store).await?;
        let handler = proxy.wasi_http_incoming_handler();
        let ended = handler.call_handle(&mut store, request, out).await;
        ended.inspect_err(|error| eprintln!("the guest failed: {error:#}"))
    }));
    Ok(answer.await??) // a guest that fails before it answers: the connection is closed
}

#[tokio::main]
async fn main() -> Result<()> {
    let file = std::env::args_os().nth(1).expect("a GUEST.wasm");
    let mut config = RunnerConfig::default();
    config.threads = 64;
    config.timeout = Some(TIMEOUT);
    config.max_memory = Some(256 << 20);
    let mut plan = RunPlan::default();
    let (dir, guest, rights) = ("/".into(), "/".into(), Rights::ReadWrite);
    plan.preopens.push(GuestDir { dir, guest, rights });
    let template = InstanceTemplate::new(&Image::empty(), plan, &config)?;
    template.fs().write("/greeting", "for all requests")?;
    let component = HostedComponent::new(&Guest::from_file(file.as_ref())?, config)?;
    let mut linker = component.linker()?;
    add_only_http_to_linker_async(&mut linker)?;
    let pre = ProxyPre::new(component.link(linker)?)?;
    let engine = component.engine().clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(5));
            engine.increment_epoch(); // guests that compute give way to others
        }
    });
    let server: Server = Arc::new((component, pre, template));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let io = TokioIo::new(listener.accept().await?.0);
        let server = Arc::clone(&server);
        let service = service_fn(move |request| answer(Arc::clone(&server), request));
        tokio::spawn(http1::Builder::new().serve_connection(io, service));
    }
}
