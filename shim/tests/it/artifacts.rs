//! Artifacts of WebAssembly: containerd makes an empty root for them, and has their program among its
//! content.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prost::Message;
use stratafs::source::BlobDigest;
use stratafs_shim::containerd::*;
use stratafs_shim::limits::{MAX_CONTENT_MESSAGE_BYTES, MAX_MANIFEST_BYTES};
use stratafs_shim::messages::*;
use tokio::net::UnixListener;

use crate::node::*;

const ARTIFACT: &str = "application/vnd.wasm.config.v0+json";
const IMAGE: &str = "application/vnd.oci.image.config.v1+json";

/// What a containerd has, and what it was asked for.
#[derive(Default)]
struct Known {
    /// Names of images, by container.
    containers: HashMap<String, String>,
    /// Digests of manifests, by name.
    images: HashMap<String, String>,
    content: HashMap<String, Vec<u8>>,
    /// The media type of what names lead to.
    target: String,
    /// Whether it answers nothing for content.
    is_silent: bool,
    /// Bytes of content in one message; 100 if it is 0.
    part: usize,
    /// The digests of content that was read, in order.
    read: Vec<String>,
}

impl Known {
    fn keep(&mut self, bytes: impl Into<Vec<u8>>) -> String {
        let bytes = bytes.into();
        let digest = BlobDigest::of(&bytes).to_string();
        self.content.insert(digest.clone(), bytes);
        digest
    }

    /// Has a container of an image whose manifest and configuration name this program.
    fn container(&mut self, id: &str, ty: &str, program: &str, size: usize) {
        let config = format!(r#"{{"layerDigests": ["{program}"]}}"#);
        self.container_with(id, (ty, &config), program, size);
    }

    fn container_with(&mut self, id: &str, (ty, config): (&str, &str), program: &str, size: usize) {
        let config = self.keep(config);
        let manifest = format!(
            r#"{{"schemaVersion": 2, "config": {{"mediaType": "{ty}", "digest": "{config}", "size": 2}},
               "layers": [{{"mediaType": "application/wasm", "digest": "{program}", "size": {size}}}]}}"#
        );
        let digest = self.keep(manifest);
        self.containers.insert(id.into(), format!("image of {id}"));
        self.images.insert(format!("image of {id}"), digest);
    }

    fn answer(&mut self, method: &str, body: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
        Ok(match method {
            "containers.v1.Containers/Get" => {
                let id = GetContainerRequest::decode(body).unwrap().id;
                let image = self.containers.get(&id).ok_or("no such container")?.clone();
                let container = Some(ContainerRecord { image });
                vec![GetContainerResponse { container }.encode_to_vec()]
            }
            "images.v1.Images/Get" => {
                let name = GetImageRequest::decode(body).unwrap().name;
                let digest = self.images.get(&name).ok_or("no such image")?.clone();
                let target = Some(ContentDescriptor {
                    media_type: self.target.clone(),
                    digest,
                });
                let image = Some(ImageRecord { target });
                vec![GetImageResponse { image }.encode_to_vec()]
            }
            "content.v1.Content/Read" => {
                let digest = ReadContentRequest::decode(body).unwrap().digest;
                let content = self.content.get(&digest).ok_or("no such content")?;
                let parts = content.chunks(if self.part == 0 { 100 } else { self.part });
                let parts = parts.map(|part| {
                    ReadContentResponse {
                        data: part.to_vec(),
                    }
                    .encode_to_vec()
                });
                let parts = parts.collect();
                self.read.push(digest);
                parts
            }
            other => panic!("{other}"),
        })
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answered(
    known: Arc<Mutex<Known>>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    assert_eq!(request.headers()["containerd-namespace"], "tests");
    let path = request.uri().path().to_owned();
    let method = path.strip_prefix("/containerd.services.").unwrap();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if known.lock().is_silent {
        std::future::pending::<()>().await;
    }
    let answer = known.lock().answer(method, &body[5..]);
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(match answer {
        Err(text) => response
            .header("grpc-status", "5")
            .header("grpc-message", text)
            .body(Full::default().boxed())
            .unwrap(),
        Ok(messages) => {
            let mut bytes = Vec::new();
            for message in messages {
                bytes.push(0);
                bytes.extend((message.len() as u32).to_be_bytes());
                bytes.extend(message);
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            // In pieces that messages do not begin with.
            let piece = if bytes.len() < 1 << 16 { 33 } else { 1 << 14 };
            let pieces = bytes
                .chunks(piece)
                .map(Bytes::copy_from_slice)
                .map(Frame::data);
            let frames: Vec<_> = pieces.chain([Frame::trailers(trailers)]).map(Ok).collect();
            let body = StreamBody::new(futures_util::stream::iter(frames));
            response.body(BodyExt::boxed(body)).unwrap()
        }
    })
}

/// Answers for containerd as long as the test goes on.
fn containerd(node: &Node) -> Arc<Mutex<Known>> {
    let known = Arc::<Mutex<Known>>::default();
    let (asked, socket) = (Arc::clone(&known), node.dir.path().join(GRPC));
    let (ready, is_ready) = std::sync::mpsc::channel();
    thread::spawn(move || {
        runtime().block_on(async {
            let listener = UnixListener::bind(socket).unwrap();
            ready.send(()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let asked = Arc::clone(&asked);
                let service = service_fn(move |request| answered(Arc::clone(&asked), request));
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    is_ready.recv().unwrap();
    known
}

/// A container whose root is empty, as that of an artifact.
fn rootless(node: &Node, id: &str) -> Bundle {
    let mut bundle = node.bundle(id, &says("wrong\n", 1));
    let empty = node.dir.path().join(format!("empty-{id}"));
    fs::create_dir(&empty).unwrap();
    bundle.request.rootfs = vec![MountMessage {
        kind: "bind".into(),
        source: empty.display().to_string(),
        options: vec!["rbind".into(), "rw".into()],
        ..MountMessage::default()
    }];
    bundle
}

/// Why a container cannot be made.
fn refusal(node: &Node, bundle: &Bundle) -> String {
    bundle.create(node).unwrap_err().to_string()
}

#[test]
fn containers_of_artifacts_run_the_program_that_containerd_has() {
    let node = Node::new();
    let known = containerd(&node);
    let program = wat::parse_str(says("an artifact\n", 3)).unwrap();
    let size = program.len();
    let digest = known.lock().keep(program);
    for id in ["a", "b"] {
        known.lock().container(id, ARTIFACT, &digest, size);
        let bundle = rootless(&node, id);
        assert_eq!(
            bundle.run(&node),
            (3, "an artifact\n".into(), String::new())
        );
    }
    // The second one is known.
    let read = known
        .lock()
        .read
        .iter()
        .filter(|read| **read == digest)
        .count();
    assert_eq!(read, 1);
    // A root with something in it is nobody else's business.
    let asked = known.lock().read.len();
    let bundle = node.bundle("c", &says("a file\n", 4));
    assert_eq!(bundle.run(&node), (4, "a file\n".into(), String::new()));
    assert_eq!(known.lock().read.len(), asked);
    node.end();
}

#[test]
fn what_containerd_has_instead_of_an_artifact_is_refused_by_name() {
    let node = Node::new();
    let known = containerd(&node);
    let program = wat::parse_str(says("an artifact\n", 3)).unwrap();
    let (size, digest) = (program.len(), BlobDigest::of(&program).to_string());
    known.lock().container("away", ARTIFACT, &digest, size);
    known.lock().container("other", ARTIFACT, &digest, size);
    known.lock().container("image", IMAGE, &digest, size);
    known.lock().container("large", ARTIFACT, &digest, 1 << 40);
    known
        .lock()
        .containers
        .insert("nameless".into(), String::new());
    known
        .lock()
        .containers
        .insert("untagged".into(), "gone".into());
    let text = known.lock().keep("#!/bin/sh");
    known.lock().container("text", ARTIFACT, &text, 9);
    for (id, words) in [
        ("away", "no such content"),
        ("image", "/app.wasm"),
        ("nameless", "/app.wasm"),
        ("unknown", "no such container"),
        ("untagged", "no such image"),
        ("large", "bytes in a program"),
        ("text", "artifact sha256:"),
    ] {
        let said = refusal(&node, &rootless(&node, id));
        assert!(said.contains(words), "{id}: {said}");
    }
    // Content that is not what its digest says, and a manifest that is not.
    known
        .lock()
        .content
        .insert(digest.clone(), b"\0asm\x01\0\0\0".to_vec());
    let said = refusal(&node, &rootless(&node, "other"));
    assert!(said.contains("something else"), "{said}");
    known.lock().container("forged", ARTIFACT, &digest, size);
    let manifest = known.lock().images["image of forged"].clone();
    known.lock().content.insert(manifest, b"{}".to_vec());
    let said = refusal(&node, &rootless(&node, "forged"));
    assert!(said.contains("something else"), "{said}");
    // An image that CRI has by the same configuration, with another program.
    known.lock().keep(program.clone());
    let other = known
        .lock()
        .keep(wat::parse_str(says("evil\n", 4)).unwrap());
    for (id, config) in [
        ("swapped", format!(r#"{{"layerDigests": ["{other}"]}}"#)),
        (
            "both",
            format!(r#"{{"layerDigests": ["{digest}", "{other}"]}}"#),
        ),
        ("none", "{}".to_owned()),
    ] {
        known
            .lock()
            .container_with(id, (ARTIFACT, &config), &digest, size);
        let said = refusal(&node, &rootless(&node, id));
        assert!(said.contains("layerDigests"), "{id}: {said}");
    }
    // An index is looked at by nobody.
    known.lock().target = "application/vnd.oci.image.index.v1+json".into();
    known.lock().container("index", ARTIFACT, &digest, size);
    let said = refusal(&node, &rootless(&node, "index"));
    assert!(said.contains("/app.wasm"), "{said}");
    node.end();
}

#[test]
fn content_past_a_bound_is_refused() {
    let node = Node::new();
    let known = containerd(&node);
    for (id, bytes, part, words) in [
        (
            "manifest",
            MAX_MANIFEST_BYTES as usize + 1,
            1 << 20,
            "at most 4393216 bytes",
        ),
        (
            "message",
            MAX_CONTENT_MESSAGE_BYTES + 1,
            1 << 25,
            "message length too large",
        ),
    ] {
        known.lock().part = part;
        let digest = known.lock().keep(vec![b' '; bytes]);
        known.lock().containers.insert(id.into(), id.into());
        known.lock().images.insert(id.into(), digest);
        let said = refusal(&node, &rootless(&node, id));
        assert!(said.contains(words), "{id}: {said}");
    }
    node.end();
}

#[test]
fn a_containerd_that_does_not_answer_is_named() {
    let node = Node::new();
    let said = refusal(&node, &rootless(&node, "a"));
    let socket = node.dir.path().join(GRPC);
    assert!(
        said.contains(&format!("containerd at {}", socket.display())),
        "{said}"
    );
    // A socket that nobody answers at: only those that need it wait.
    let known = containerd(&node);
    known.lock().is_silent = true;
    thread::scope(|scope| {
        let waits = scope.spawn(|| refusal(&node, &rootless(&node, "slow")));
        let bundle = node.bundle("beside", &says("beside\n", 4));
        assert_eq!(bundle.run(&node), (4, "beside\n".into(), String::new()));
        let said = waits.join().unwrap();
        assert!(said.contains("no answer within 2 s"), "{said}");
    });
    fs::remove_file(&socket).unwrap();
    // A socket where something else answers.
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let other = thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().unwrap();
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
    let said = refusal(&node, &rootless(&node, "b"));
    assert!(said.contains("containerd"), "{said}");
    other.join().unwrap();
    node.end();
}
