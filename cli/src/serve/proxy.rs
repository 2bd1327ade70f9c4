//! The guest: which component answers requests, and what its instances are linked to.

use std::net::SocketAddr;

use http_body_util::BodyExt;
use hyper::http::uri::{Authority, Parts, Scheme};
use hyper::{Request, Response, Uri};
use stratafs::runner::{
    Destination, Guest, GuestKind, HostedComponent, HostedState, Network, RunnerConfig,
};
use stratafs::wasi::{StratafsCtx, StratafsView};
use stratafs::wasmtime::ResourceLimiter;
use stratafs::wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    default_send_request, p2, p3,
};

use crate::failure::Failure;
use crate::limits::MAX_PIECE_BYTES;

/// What answers requests, in 0.2 and in 0.3.
const HANDLER: &str = "wasi:http/incoming-handler@0.2";
const HANDLER_THREE: &str = "wasi:http/handler@0.3";

/// How many exports an error names.
const NAMED_EXPORTS: usize = 5;

/// A component that answers requests, compiled and linked once.
pub(super) struct Proxy {
    pub(super) component: HostedComponent,
    pub(super) entry: ProxyHandler,
}

/// What is called for a request.
pub(super) enum ProxyHandler {
    Two(ProxyPre<Data>),
    Three(ServicePre<Data>),
}

/// What the store of one instance holds.
pub(super) struct Data {
    state: HostedState,
    http: WasiHttpCtx,
    hooks: Hooks,
}

/// How an instance sends requests: where the network is open to it.
struct Hooks {
    network: Network,
}

impl Proxy {
    pub(super) fn new(guest: &Guest, config: RunnerConfig) -> Result<Self, Failure> {
        if guest.kind() == GuestKind::Core {
            return Err(no_proxy(
                guest,
                "a core module, such as a command of WASI preview1",
            ));
        }
        let component = HostedComponent::new(guest, config)?;
        let exports = component.exports();
        let has = |handler: &str| exports.iter().any(|name| name.starts_with(handler));
        let (is_two, is_three) = (has(HANDLER), has(HANDLER_THREE));
        if !is_two && !is_three {
            return Err(no_proxy(guest, &found(&exports)));
        }
        let mut linker = component.linker()?;
        // A guest of 0.3 may import both.
        let linked = p2::add_only_http_to_linker_async(&mut linker);
        let linked = linked.and_then(|()| match guest.kind() {
            GuestKind::AsyncComponent => p3::add_to_linker(&mut linker),
            _ => Ok(()),
        });
        linked.map_err(|error| Failure::new(format_args!("wasi:http: {error:#}")))?;
        let pre = component.link(linker)?;
        let entry = match is_three {
            true => ServicePre::new(pre).map(ProxyHandler::Three),
            false => ProxyPre::new(pre).map(ProxyHandler::Two),
        };
        let entry = entry.map_err(|error| no_proxy(guest, &format!("a component: {error:#}")))?;
        Ok(Self { component, entry })
    }
}

fn no_proxy(guest: &Guest, found: &str) -> Failure {
    Failure::new(format_args!(
        "{}: expected a component that answers requests (the world wasi:http/proxy, which exports \
         {HANDLER}, or wasi:http/service, which exports {HANDLER_THREE}), found {found}: `stratafs run` runs commands",
        guest.name()
    ))
}

/// Says what a component is in place of one that answers requests.
fn found(exports: &[String]) -> String {
    let named = exports.get(..NAMED_EXPORTS).unwrap_or(exports).join(", ");
    let more = exports.len().saturating_sub(NAMED_EXPORTS);
    match (exports.len(), more) {
        (0, _) => "a component that exports nothing".to_owned(),
        (_, 0) => format!("a component that exports {named}"),
        _ => format!("a component that exports {named} and {more} more"),
    }
}

impl Data {
    pub(super) fn new(state: HostedState, network: &Network) -> Self {
        Self {
            state,
            http: WasiHttpCtx::new(),
            hooks: Hooks {
                network: network.clone(),
            },
        }
    }

    pub(super) fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        self.state.limiter()
    }
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.state.ctx()
    }
}

impl StratafsView for Data {
    fn stratafs(&mut self) -> &mut StratafsCtx {
        self.state.stratafs()
    }
}

impl WasiHttpView for Data {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: self.state.ctx().table,
            hooks: &mut self.hooks,
        }
    }
}

/// What a request that was sent gives.
type Sent = Result<
    (
        Response<WasiBody>,
        Box<dyn Future<Output = Result<(), Error>> + Send>,
    ),
    Error,
>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let request = self.allowed(request);
        Box::new(async move {
            let (response, io) = default_send_request(request?, options).await?;
            let io: Box<dyn Future<Output = _> + Send> = Box::new(io);
            Ok((response.map(BodyExt::boxed_unsync), io))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        MAX_PIECE_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        MAX_PIECE_BYTES
    }
}

impl Hooks {
    /// Refuses a request that leads where the guest may not go. One by name is sent to an
    /// address that was found at the start, except over TLS, whose certificate says who it is.
    fn allowed(&self, mut request: Request<WasiBody>) -> Result<Request<WasiBody>, Error> {
        let uri = request.uri();
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        match self.network.destination(host, port) {
            Destination::At(found) if !is_tls => {
                let first = found.first().ok_or(Error::HttpRequestDenied)?;
                let address = SocketAddr::new(*first, port).to_string();
                *request.uri_mut() = at(request.uri(), &address)?;
                Ok(request)
            }
            Destination::At(_) | Destination::ByName => Ok(request),
            _ => Err(Error::HttpRequestDenied),
        }
    }
}

/// The same with another authority.
fn at(uri: &Uri, address: &str) -> Result<Uri, Error> {
    let invalid = |_| Error::HttpRequestUriInvalid;
    let mut parts: Parts = uri.clone().into_parts();
    parts.authority = Some(address.parse::<Authority>().map_err(invalid)?);
    Uri::from_parts(parts).map_err(|_| Error::HttpRequestUriInvalid)
}
