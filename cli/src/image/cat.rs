//! `image cat`.

use std::io::{self, Write};

use serde_json::json;
use stratafs::limits::CHUNK_BYTES;
use stratafs::name::show;
use stratafs::store::Store;
use stratafs::vfs::{Descriptor, Fs};

use super::args::CatArgs;
use super::text::answer;
use crate::failure::{Failure, taken};
use crate::limits::MAX_JSON_CONTENT_BYTES;

/// Zeros that are written at a time.
static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

pub(super) fn cat(store: &Store, args: CatArgs) -> Result<(), Failure> {
    let fs = Fs::new(&store.image(args.image.reference.as_str())?);
    if !args.form.json {
        let file = fs.open(&args.path)?;
        return stream(file.descriptor(), &args.path);
    }
    let bytes = fs.read_up_to(&args.path, MAX_JSON_CONTENT_BYTES)?;
    let (encoding, content) = match std::str::from_utf8(&bytes) {
        Ok(text) => ("utf-8", text.to_owned()),
        Err(_) => (
            "hex",
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ),
    };
    let document = || {
        json!({
            "path": args.path,
            "size_bytes": bytes.len(),
            "encoding": encoding,
            "content": content,
        })
    };
    answer(args.form, document, String::new)
}

/// Writes a file to stdout piece by piece, a hole as zeros for as long as
/// somebody reads them.
fn stream(file: &Descriptor, path: &str) -> Result<(), Failure> {
    let failed = |errno| Failure::new(format_args!("{}: {errno}", show(path.as_bytes())));
    let size = file.stat().map_err(failed)?.size;
    let mut stdout = io::stdout().lock();
    let mut at = 0;
    while at < size {
        let hole = file.hole_at(at).map_err(failed)?.min(size - at);
        let written = if hole > 0 {
            let len = usize::try_from(hole).unwrap_or(usize::MAX);
            let zeros = ZEROS.get(..len).unwrap_or(&ZEROS);
            at += zeros.len() as u64;
            stdout.write_all(zeros)
        } else {
            let piece = file.read_bytes(at, CHUNK_BYTES).map_err(failed)?;
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            stdout.write_all(&piece)
        };
        if !taken(written)? {
            return Ok(());
        }
    }
    taken(stdout.flush()).map(drop)
}
