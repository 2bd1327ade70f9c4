//! The shim from outside: its service over a socket, and the program that containerd starts.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    missing_docs,
    unreachable_pub,
    reason = "a test stops at what it does not expect, and is no library"
)]

mod netns; // networks of pods
mod node; // a service with a containerd that notes its events, and guests
mod support; // what these tests share with those of the library

mod artifacts; // programs that are artifacts, which containerd has
mod containers; // from creation to deletion: streams, codes, signals, events
mod hostile; // specs, connections and guests that mean harm
mod install; // install.sh on a directory as the root of a node
mod lazy; // content that comes from a registry when it is read
mod otel; // spans for a collector
mod process; // the program: start, delete, and the process that stays
mod sockets; // sockets and names of guests in the networks of their pods
mod stored; // images of a store, as a mount names them
mod users; // users of a spec
