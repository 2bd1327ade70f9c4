//! What containerd is asked: which image a container is of, and for the program of an artifact.
//!
//! An artifact of WebAssembly has no file system, and containerd makes an empty root for it. The
//! program lies among containerd's content. Three calls of its gRPC services lead to it: of the
//! containers (`containerd.services.containers.v1`), the images and the content.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use stratafs::source::{ArtifactProgram, BlobDigest};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::{Service, http};
use tonic::metadata::{Ascii, MetadataValue};
use tonic_prost::ProstCodec;

use crate::limits::{MAX_CONTENT_MESSAGE_BYTES, MAX_MANIFEST_BYTES, MAX_PROGRAM_BYTES};
use crate::status::{Code, Status};

/// How long containerd has for all that is asked about one container. It reads from its own disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// The media types of indexes: of one containerd unpacks, and this does not say which.
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// What requests are addressed to: HTTP asks for a host.
const ORIGIN: &str = "http://containerd";

/// Asks for a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GetContainerRequest {
    /// Its name.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// What containerd knows of a container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GetContainerResponse {
    /// All of it.
    #[prost(message, optional, tag = "1")]
    pub container: Option<ContainerRecord>,
}

/// A container.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ContainerRecord {
    /// The name of its image.
    #[prost(string, tag = "3")]
    pub image: String,
}

/// Asks for an image.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GetImageRequest {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// What containerd knows of an image.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GetImageResponse {
    /// All of it.
    #[prost(message, optional, tag = "1")]
    pub image: Option<ImageRecord>,
}

/// An image.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ImageRecord {
    /// What the name leads to.
    #[prost(message, optional, tag = "3")]
    pub target: Option<ContentDescriptor>,
}

/// Names content.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ContentDescriptor {
    /// What it is.
    #[prost(string, tag = "1")]
    pub media_type: String,
    /// Its digest.
    #[prost(string, tag = "2")]
    pub digest: String,
}

/// Asks for content, all of it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReadContentRequest {
    /// Its digest.
    #[prost(string, tag = "1")]
    pub digest: String,
}

/// A part of content.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReadContentResponse {
    /// Its bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

/// The artifact that a container is of.
#[derive(Debug)]
pub struct Artifact {
    /// Its program.
    pub program: ArtifactProgram,
    /// The bytes of the program, if they were asked for.
    pub bytes: Option<Vec<u8>>,
}

/// The containerd that started this process.
#[derive(Clone, Debug)]
pub struct Containerd {
    socket: PathBuf,
    namespace: String,
    patience: Duration,
}

impl Containerd {
    /// Notes where it answers, and the namespace of the containers.
    #[must_use]
    pub fn at(address: &str, namespace: &str) -> Self {
        let socket = address.strip_prefix("unix://").unwrap_or(address);
        Self {
            socket: socket.into(),
            namespace: namespace.to_owned(),
            patience: PATIENCE,
        }
    }

    /// Has it answer within another time than 30 s: all that is asked about one container together.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Finds the program of the artifact that a container is of, and reads it unless `is_known` says
    /// that there is no need; `None` for a container of anything else, such as an index. Blocks.
    ///
    /// CRI knows images by the digests of their configurations, and a container may be told the name of
    /// another image with the same one. So the configuration has to name the program.
    ///
    /// # Errors
    /// containerd does not answer in time, or knows nothing of the container, its image or its
    /// content; the artifact is not one program that its configuration names.
    pub fn artifact_of(
        &self,
        container: &str,
        is_known: impl FnOnce(&ArtifactProgram) -> bool,
    ) -> Result<Option<Artifact>, Status> {
        self.connected(async |connection| {
            let request = GetContainerRequest {
                id: container.to_owned(),
            };
            let found: GetContainerResponse = connection
                .ask("containers.v1.Containers/Get", request)
                .await?;
            let name = found.container.unwrap_or_default().image;
            if name.is_empty() {
                return Ok(None);
            }
            let request = GetImageRequest { name: name.clone() };
            let image: GetImageResponse = connection.ask("images.v1.Images/Get", request).await?;
            let target = image.image.and_then(|image| image.target);
            let target = target.unwrap_or_default();
            if INDEXES.contains(&target.media_type.as_str()) {
                return Ok(None);
            }
            let said = |what: &dyn std::fmt::Display| {
                Status::invalid(format_args!("image {name}: {what}"))
            };
            let digest: BlobDigest = target.digest.parse().map_err(|error| said(&error))?;
            let manifest = connection.content(&digest, MAX_MANIFEST_BYTES).await?;
            let program = ArtifactProgram::of_manifest(&manifest).map_err(|error| said(&error))?;
            let Some(program) = program else {
                return Ok(None);
            };
            let config = connection.content(&program.config, MAX_MANIFEST_BYTES);
            let checked = program.check_config(&config.await?);
            checked.map_err(|error| said(&error))?;
            let bytes = match is_known(&program) {
                true => None,
                false => Some(
                    connection
                        .content(&program.digest, MAX_PROGRAM_BYTES)
                        .await?,
                ),
            };
            Ok(Some(Artifact { program, bytes }))
        })
    }

    /// Makes calls over a connection of their own.
    fn connected<R>(
        &self,
        work: impl AsyncFnOnce(&mut Connection) -> Result<R, Status>,
    ) -> Result<R, Status> {
        let failed = |what: &dyn std::fmt::Display| {
            Status::new(
                Code::Unavailable,
                format_args!("containerd at {}: {what}", self.socket.display()),
            )
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        runtime.block_on(async {
            let worked = timeout(self.patience, async {
                let stream = UnixStream::connect(&self.socket).await;
                let stream = stream.map_err(|error| failed(&error))?;
                let shaken = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
                let (sender, driver) = shaken.map_err(|error| failed(&error))?;
                // It ends with the runtime.
                tokio::spawn(driver);
                let namespace = self.namespace.parse();
                let namespace = namespace.map_err(|_| failed(&"the namespace is no header"))?;
                let grpc = Grpc::with_origin(Sender(sender), http::Uri::from_static(ORIGIN))
                    .max_decoding_message_size(MAX_CONTENT_MESSAGE_BYTES);
                work(&mut Connection { grpc, namespace }).await
            });
            match worked.await {
                Ok(done) => done,
                Err(_) => Err(failed(&format_args!(
                    "no answer within {} s",
                    self.patience.as_secs_f32()
                ))),
            }
        })
    }
}

/// A connection to containerd.
struct Connection {
    grpc: Grpc<Sender>,
    namespace: MetadataValue<Ascii>,
}

impl Connection {
    /// Makes a call that one message answers.
    async fn ask<R: Message + Default + 'static>(
        &mut self,
        method: &'static str,
        request: impl Message + 'static,
    ) -> Result<R, Status> {
        let (request, path) = self.asked(method, request).await?;
        let codec = ProstCodec::default();
        let answer = self.grpc.unary(request, path, codec).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| refused(method, &status))
    }

    /// Reads content, which comes in parts, and holds it against its digest.
    async fn content(&mut self, digest: &BlobDigest, most: u64) -> Result<Vec<u8>, Status> {
        const METHOD: &str = "content.v1.Content/Read";
        let request = ReadContentRequest {
            digest: digest.to_string(),
        };
        let (request, path) = self.asked(METHOD, request).await?;
        let codec = ProstCodec::<_, ReadContentResponse>::default();
        let answer = self.grpc.server_streaming(request, path, codec).await;
        let mut parts = answer
            .map(tonic::Response::into_inner)
            .map_err(|status| refused(METHOD, &status))?;
        let said = |what: &dyn std::fmt::Display| {
            Status::invalid(format_args!("content {digest}: {what}"))
        };
        let mut content = Vec::new();
        while let Some(part) = parts
            .message()
            .await
            .map_err(|status| refused(METHOD, &status))?
        {
            content.extend_from_slice(&part.data);
            if content.len() as u64 > most {
                return Err(said(&format_args!(
                    "expected at most {most} bytes, found more"
                )));
            }
        }
        match digest.is_of(&content) {
            true => Ok(content),
            false => Err(said(
                &"what containerd has under this digest is something else",
            )),
        }
    }

    /// Makes a request ready, and waits until the connection takes it.
    async fn asked<M>(
        &mut self,
        method: &'static str,
        message: M,
    ) -> Result<(tonic::Request<M>, http::uri::PathAndQuery), Status> {
        let failed = |what: &dyn std::fmt::Display| {
            Status::new(
                Code::Unavailable,
                format_args!("containerd: {method}: {what}"),
            )
        };
        let ready = self.grpc.ready().await;
        ready.map_err(|error| failed(&error))?;
        let mut request = tonic::Request::new(message);
        let namespace = self.namespace.clone();
        request
            .metadata_mut()
            .insert("containerd-namespace", namespace);
        let path = format!("/containerd.services.{method}").parse();
        Ok((request, path.map_err(|error| failed(&error))?))
    }
}

/// Sends requests over one connection.
struct Sender(SendRequest<Body>);

impl Service<http::Request<Body>> for Sender {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

fn refused(method: &str, status: &tonic::Status) -> Status {
    let code = match status.code() {
        tonic::Code::NotFound => Code::NotFound,
        _ => Code::Unavailable,
    };
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Status::new(code, format_args!("containerd: {method}: {text}"))
}
