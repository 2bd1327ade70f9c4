//! A door with TLS before a registry that has none. Its certificate, for 127.0.0.1, `localhost` and
//! `registry.test`, is signed by a root that nobody trusts who is not told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The root, in PEM.
pub const ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBmDCCAT+gAwIBAgIUXztv0waFWLnJy+iWqFvKSMrVYjwwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOc3RyYXRhZnMgdGVzdHMwIBcNMjYxMTI5MjE0MTM0WhgPMjEy
NjExMDUyMTQxMzRaMBkxFzAVBgNVBAMMDnN0cmF0YWZzIHRlc3RzMFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEjiXjfo0/dgI/dEgJOcvQWOdHQ6g6QoSWdH9s4pPc
pX3JpdgguHlYFxKUJkLPN1M90Ul4rRaSQ5If7/UUSmR4X6NjMGEwHQYDVR0OBBYE
FPs9CXva0fq/rzVZ77mP6VxnoeIAMB8GA1UdIwQYMBaAFPs9CXva0fq/rzVZ77mP
6VxnoeIAMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgIEMAoGCCqGSM49
BAMCA0cAMEQCIDxzg5P6F+Fg37dhdXwmuxMNf+ZgCDA7N4Eyj4U4EaiMAiAESd4D
kmaTjUuvj0JbN/PejT/w976gsSsi+g5QXX3GXw==
-----END CERTIFICATE-----
";

const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBxDCCAWqgAwIBAgIUWhhsf3O0JIGYwpyEw/yexZznRl4wCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOc3RyYXRhZnMgdGVzdHMwIBcNMjYxMTI5MjE0MTM0WhgPMjEy
NjExMDUyMTQxMzRaMBgxFjAUBgNVBAMMDXJlZ2lzdHJ5LnRlc3QwWTATBgcqhkjO
PQIBBggqhkjOPQMBBwNCAATMaw3E4w/x7VcVUNw2BRbBmIZGopmlPFUA4s816rbv
kFYpnWRuDn+jpKJ5ni4lgPXb0GuWv824LJfSJQcGegSso4GOMIGLMCkGA1UdEQQi
MCCHBH8AAAGCCWxvY2FsaG9zdIINcmVnaXN0cnkudGVzdDAJBgNVHRMEAjAAMBMG
A1UdJQQMMAoGCCsGAQUFBwMBMB0GA1UdDgQWBBRqzgtydAwD5I/budGyfoSEY+y/
/TAfBgNVHSMEGDAWgBT7PQl72tH6v681We+5j+lcZ6HiADAKBggqhkjOPQQDAgNI
ADBFAiEA4mOVtlWMGsCu2Q08CxfwdvQipgYKj7qacNpS/hmv8hICIEFV8e9NuFr1
oaQXj5Fk2I7rbfZpL286ebwVEAGy4qN9
-----END CERTIFICATE-----
";

/// Of no use but to this door.
const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgpfArow0UJZCp3ou1
YJs3UUneuysPIMqDxqPJzlabh1yhRANCAATMaw3E4w/x7VcVUNw2BRbBmIZGopml
PFUA4s816rbvkFYpnWRuDn+jpKJ5ni4lgPXb0GuWv824LJfSJQcGegSs
-----END PRIVATE KEY-----
";

/// Where the door is. It stays open as long as the process is there.
pub struct TlsDoor {
    pub host: String,
}

impl TlsDoor {
    /// Opens one that leads to `host`.
    pub fn before(host: &str) -> Self {
        let inner: SocketAddr = host.parse().unwrap();
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((outer, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move {
                        // Whoever does not trust the root leaves here.
                        let Ok(mut outer) = acceptor.accept(outer).await else {
                            return;
                        };
                        let mut inner = TcpStream::connect(inner).await.unwrap();
                        drop(copy_bidirectional(&mut outer, &mut inner).await);
                    });
                }
            });
        });
        Self { host }
    }
}
