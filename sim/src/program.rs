//! What an image holds and what its guest needs to start, as recorded from a real one.

use serde::Deserialize;

/// An image with its guest. `sim/record.py` writes these from an image and the trace of a start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    /// What it is, for people.
    pub(crate) name: String,
    /// Bytes of each layer's blob.
    pub(crate) layers: Vec<u64>,
    /// Bytes of all hidden tables together.
    pub(crate) table_bytes: u64,
    /// Bytes of the program's own frames, a part of what is read.
    pub(crate) program_bytes: u64,
    /// Bytes of the frames that a start reads, one by one, in the order of their first read,
    /// without the program's own.
    pub(crate) reads: Vec<u64>,
    /// Bytes of the compiled program, compressed.
    pub(crate) compiled_bytes: u64,
    /// Seconds of one core that compiling the program takes.
    pub(crate) compile_seconds: f64,
    /// Seconds of one core from a guest's first instruction to its first output.
    pub(crate) guest_seconds: f64,
    /// Microseconds of one core that making a file system and an instance takes.
    pub(crate) create_microseconds: f64,
    /// What the next version of the image brings.
    pub(crate) update: Update,
    /// MiB of a process without guests, the program compiled.
    pub(crate) process_mib: f64,
    /// MiB of each live guest.
    pub(crate) guest_mib: f64,
}

/// Bytes that a host with the version before has to fetch for the next one, by what is told apart.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Update {
    pub(crate) layer_bytes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) chunk_bytes: u64,
}

impl Program {
    /// Returns the bytes of all layers.
    pub(crate) fn image_bytes(&self) -> u64 {
        self.layers.iter().sum()
    }

    /// Returns the bytes that a start reads beside the program.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.reads.iter().sum()
    }
}

/// The recorded ones, by the name that `--program` takes.
pub(crate) const RECORDED: [(&str, &str); 4] = [
    ("cpython", include_str!("../programs/cpython.json")),
    ("php", include_str!("../programs/php.json")),
    ("ruby", include_str!("../programs/ruby.json")),
    ("quickjs", include_str!("../programs/quickjs.json")),
];
