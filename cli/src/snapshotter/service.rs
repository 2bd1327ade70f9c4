//! containerd's snapshots service over gRPC: each method, and who does it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Incoming;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::http::{Request as HttpRequest, Response as HttpResponse};
use tonic::codegen::tokio_stream::{self, Stream};
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::proto::{
    CommitRequest, InfoAnswer, KeyRequest, ListAnswer, ListRequest, MountsAnswer, Nothing,
    PrepareRequest, UpdateRequest, UsageAnswer,
};
use super::record::SnapshotKind;
use super::snapshots::Snapshots;
use crate::limits::MAX_SNAPSHOT_MESSAGE_BYTES;

/// The name of the service, as it stands in paths.
const SERVICE: &str = "/containerd.services.snapshots.v1.Snapshots/";

/// Snapshots in one message of a list.
const LISTED_AT_ONCE: usize = 100;

/// What becomes of a call: an answer, later.
type Answered<R> = Pin<Box<dyn Future<Output = Result<Response<R>, Status>> + Send>>;

/// Answers one call.
pub(super) async fn answer(
    snapshots: Arc<Snapshots>,
    request: HttpRequest<Incoming>,
) -> Result<HttpResponse<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let method = path.strip_prefix(SERVICE).unwrap_or_default();
    let of = snapshots;
    let prepare = |kind| {
        let of = Arc::clone(&of);
        move |asked: PrepareRequest| {
            let mounts = of.prepare((asked.key, asked.parent), kind, asked.labels)?;
            Ok(MountsAnswer { mounts })
        }
    };
    Ok(match method {
        "Prepare" => unary(request, prepare(SnapshotKind::Active)).await,
        "View" => unary(request, prepare(SnapshotKind::View)).await,
        "Mounts" => {
            let work = move |asked: KeyRequest| {
                let mounts = of.mounts(&asked.key)?;
                Ok(MountsAnswer { mounts })
            };
            unary(request, work).await
        }
        "Commit" => {
            let work = move |asked: CommitRequest| {
                of.commit((asked.name, asked.key), asked.labels)?;
                Ok(Nothing {})
            };
            unary(request, work).await
        }
        "Remove" => {
            let work = move |asked: KeyRequest| of.remove(&asked.key).map(|()| Nothing {});
            unary(request, work).await
        }
        "Stat" => {
            let work = move |asked: KeyRequest| of.stat(&asked.key).map(info_answer);
            unary(request, work).await
        }
        "Update" => unary(request, move |asked| update(&of, asked)).await,
        "List" => list(request, of).await,
        "Usage" => unary(request, move |asked| usage(&of, &asked)).await,
        "Cleanup" => {
            let work = move |_: Nothing| of.cleanup().map(|()| Nothing {});
            unary(request, work).await
        }
        _ => Status::unimplemented(format!("no method {path:?}")).into_http(),
    })
}

fn info_answer(info: super::proto::Info) -> InfoAnswer {
    InfoAnswer { info: Some(info) }
}

fn update(of: &Snapshots, asked: UpdateRequest) -> Result<InfoAnswer, Status> {
    let info = asked.info.unwrap_or_default();
    let paths = asked.update_mask.unwrap_or_default().paths;
    of.update(info, &paths).map(info_answer)
}

fn usage(of: &Snapshots, asked: &KeyRequest) -> Result<UsageAnswer, Status> {
    let (bytes, inodes) = of.usage(&asked.key)?;
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Ok(UsageAnswer {
        size: number(bytes),
        inodes: number(inodes),
    })
}

/// Work on files and on a network, apart from the threads that speak to clients.
async fn apart<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Status> + Send + 'static,
) -> Result<R, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Status::internal("the snapshotter failed at this call")))
}

/// A call with one answer.
struct UnaryCall<F>(F);

impl<Q, R, F> UnaryService<Q> for UnaryCall<F>
where
    Q: Send + 'static,
    R: Send + 'static,
    F: Fn(Q) -> Result<R, Status> + Clone + Send + 'static,
{
    type Response = R;
    type Future = Answered<R>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let work = self.0.clone();
        Box::pin(async move {
            let asked = request.into_inner();
            apart(move || work(asked)).await.map(Response::new)
        })
    }
}

async fn unary<Q, R>(
    request: HttpRequest<Incoming>,
    work: impl Fn(Q) -> Result<R, Status> + Clone + Send + 'static,
) -> HttpResponse<Body>
where
    Q: Message + Default + 'static,
    R: Message + 'static,
{
    let mut grpc = Grpc::new(ProstCodec::<R, Q>::default())
        .max_decoding_message_size(MAX_SNAPSHOT_MESSAGE_BYTES);
    grpc.unary(UnaryCall(work), request).await
}

/// A call whose answer comes in pieces.
struct ListCall(Arc<Snapshots>);

type Pieces = Pin<Box<dyn Stream<Item = Result<ListAnswer, Status>> + Send>>;

impl ServerStreamingService<ListRequest> for ListCall {
    type Response = ListAnswer;
    type ResponseStream = Pieces;
    type Future = Answered<Pieces>;

    fn call(&mut self, request: Request<ListRequest>) -> Self::Future {
        let of = Arc::clone(&self.0);
        Box::pin(async move {
            let filters = request.into_inner().filters;
            let all = apart(move || of.list(&filters)).await?;
            let pieces: Vec<_> = all
                .chunks(LISTED_AT_ONCE)
                .map(|info| {
                    Ok(ListAnswer {
                        info: info.to_vec(),
                    })
                })
                .collect();
            Ok(Response::new(Box::pin(tokio_stream::iter(pieces)) as Pieces))
        })
    }
}

async fn list(request: HttpRequest<Incoming>, of: Arc<Snapshots>) -> HttpResponse<Body> {
    let mut grpc = Grpc::new(ProstCodec::<ListAnswer, ListRequest>::default())
        .max_decoding_message_size(MAX_SNAPSHOT_MESSAGE_BYTES);
    grpc.server_streaming(ListCall(of), request).await
}
