//! The call of a guest that answers a request, in 0.2 and in 0.3.

use std::future::poll_fn;
use std::pin::Pin;

use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, Response, Uri};
use stratafs::wasmtime::component::{Accessor, Resource};
use stratafs::wasmtime::{Error, Store};
use tokio::sync::oneshot;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme as SchemeTwo;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::p3::{self, bindings::Service};
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use super::body::Received;
use super::proxy::{Data, ProxyHandler};
use super::record::RequestRecord;

/// What the guest gives in answer, or the error that it gives in its place. Closed without
/// either, if it ends before.
pub(super) type GivenLater = oneshot::Receiver<Result<Response<WasiBody>, String>>;

type Sender = oneshot::Sender<Result<Response<WasiBody>, String>>;

/// A call that is ready to be made.
pub(super) enum Call {
    Two(
        Resource<HostIncomingRequest>,
        Resource<HostResponseOutparam>,
    ),
    Three(Box<Request<Received>>, Sender),
}

impl Call {
    /// Puts a request where the guest of this store finds it.
    pub(super) fn new(
        entry: &ProxyHandler,
        store: &mut Store<Data>,
        request: Request<Received>,
    ) -> Result<(Self, GivenLater), Error> {
        let (sender, given) = oneshot::channel::<Result<_, String>>();
        let call = match entry {
            ProxyHandler::Two(_) => {
                let mut http = store.data_mut().http();
                let request = http.new_incoming_request(SchemeTwo::Http, request)?;
                let out = http.new_response_outparam_from_callback(move |given| {
                    // Whoever asked may have gone.
                    drop(sender.send(given.map_err(|code| format!("{code:?}"))));
                })?;
                Self::Two(request, out)
            }
            ProxyHandler::Three(_) => Self::Three(Box::new(addressed(request)), sender),
        };
        Ok((call, given))
    }

    /// Makes an instance and calls it. Returns when it has nothing left to do, which may be
    /// after its answer.
    pub(super) async fn make(
        self,
        entry: &ProxyHandler,
        store: &mut Store<Data>,
        record: &RequestRecord,
    ) -> Result<(), Error> {
        match (self, entry) {
            (Self::Two(request, out), ProxyHandler::Two(pre)) => {
                let proxy = pre.instantiate_async(&mut *store).await?;
                record.started();
                let handler = proxy.wasi_http_incoming_handler();
                handler.call_handle(&mut *store, request, out).await
            }
            (Self::Three(request, sender), ProxyHandler::Three(pre)) => {
                let service = pre.instantiate_async(&mut *store).await?;
                record.started();
                let handled = store
                    .run_concurrent(async |store| handle(store, &service, *request, sender).await);
                handled.await?
            }
            _ => Err(Error::msg("the request is of another version of WASI")),
        }
    }
}

/// Puts into the address whom the request is for, which a guest of 0.3 has from there alone.
fn addressed(request: Request<Received>) -> Request<Received> {
    let (mut head, body) = request.into_parts();
    let mut parts = head.uri.clone().into_parts();
    if parts.authority.is_none() {
        let host = head.headers.get(HOST).map(HeaderValue::as_bytes);
        parts.authority = host.and_then(|host| Authority::try_from(host).ok());
        parts.scheme = Some(Scheme::HTTP);
        // `*` has no address.
        if let Ok(uri) = Uri::from_parts(parts) {
            head.uri = uri;
        }
    }
    Request::from_parts(head, body)
}

async fn handle(
    store: &Accessor<Data>,
    service: &Service,
    request: Request<Received>,
    sender: Sender,
) -> Result<(), Error> {
    let (request, read) = store.with(|mut access| {
        let data = access.get();
        let (request, read) = p3::Request::from_http(data.http().hooks, request);
        let read: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(read);
        (request, read)
    });
    let given = match service.handle(store, request).await? {
        Ok(response) => Ok(store.with(|access| response.into_http(access, read))?),
        Err(code) => Err(format!("{code:?}")),
    };
    // Whoever asked may have gone.
    drop(sender.send(given));
    // The body is written after that.
    poll_fn(|cx| store.poll_no_interesting_tasks(cx)).await;
    Ok(())
}
