//! A runtime of containerd: WebAssembly guests over the layers of images, many in one process.
//!
//! containerd starts `containerd-shim-stratafs-v1`, which leaves one process behind for all
//! containers of a namespace on this node, or one for each pod. That process answers the task
//! service (version 2) over a Unix socket and runs the guests itself: nothing is mounted, and no
//! process is started for a container. docs/CONTAINERD.md says how it is set up, what it holds
//! to, and what it refuses.
//!
//! The library is the program's own: its parts are public so that its tests reach them.

#![cfg(target_os = "linux")]

pub mod config;
pub mod container;
pub mod containerd;
pub mod dns;
pub mod events;
pub mod fifo;
pub mod figures;
pub mod file_user;
pub mod input;
pub mod limits;
pub mod log;
pub mod lookup;
pub mod messages;
pub mod metrics;
pub mod mounts;
pub mod netns;
pub mod network;
pub mod plan;
pub mod programs;
pub mod reach;
pub mod ready;
pub mod rootfs;
pub mod service;
pub mod spec;
pub mod start;
pub mod status;
pub mod stored;
pub mod sysctls;
pub mod throttle;
pub mod trace;
pub mod ttrpc;
pub mod users;
pub mod wire;
