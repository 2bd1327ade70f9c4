//! One session at an interpreter's prompt, four ways on from its middle, and the files of the best.
//!
//! `cargo run --release --features freeze,gzip,oci,store --example fork_session -- python.wasm python.tar.gz store`
//!
//! A CPython imports what it needs, opens a file, and stands at its prompt. There it is frozen.
//! Four instances go on from that point: other code is typed at each prompt, and finds the names and
//! the open file of the session. The one with the shortest answer is kept: its files become
//! an image in the store.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use stratafs::image::Image;
use stratafs::runner::freeze::{Freezing, Point, freeze};
use stratafs::runner::{Guest, GuestDir, RunPlan, RunnerConfig, StandardStreams, Stdio};
use stratafs::store::Store;
use stratafs::vfs::Rights;
use wasmtime_wasi::cli::{StdinStream, StdoutStream};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

/// What the session has behind it when it comes to its prompt.
const SESSION: &str = "
import json, re
log = open('/log', 'w')
print('prepared', file=log)
words = re.findall('[a-z]+', 'what four branches have in common')
";

/// What is typed at the prompt of each branch.
const BRANCHES: [&str; 4] = [
    "answer = ' '.join(words)",
    "answer = '-'.join(sorted(words))",
    "answer = ''.join(word[0] for word in words)",
    "answer = json.dumps(words)",
];

/// What is typed behind that.
const REST: &str = "
print('answered', file=log)
print(answer)
done = open('/answer', 'w').write(answer)
";

/// The most that is kept of what a branch writes.
const MOST_SAID: usize = 64 << 10;

/// What is typed at one prompt, and what is written there.
struct Prompt {
    typed: MemoryInputPipe,
    said: MemoryOutputPipe,
    errors: MemoryOutputPipe,
}

impl Prompt {
    fn new(typed: String) -> Self {
        Self {
            typed: MemoryInputPipe::new(typed),
            said: MemoryOutputPipe::new(MOST_SAID),
            errors: MemoryOutputPipe::new(MOST_SAID),
        }
    }
}

impl StandardStreams for Prompt {
    fn stdin(&self, _: u32) -> Box<dyn StdinStream + Sync> {
        Box::new(self.typed.clone())
    }

    fn stdout(&self, _: u32) -> Box<dyn StdoutStream + Sync> {
        Box::new(self.said.clone())
    }

    fn stderr(&self, _: u32) -> Box<dyn StdoutStream + Sync> {
        Box::new(self.errors.clone())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [program, library, store] = words.as_slice() else {
        return Err(
            "expected a CPython of WASI preview1, its library as a layer, and a store".into(),
        );
    };
    let guest = Guest::from_file(Path::new(program))?;
    let base = Image::open([Path::new(library)])?;
    let store = Store::open(Path::new(store))?;

    let config = RunnerConfig::default();
    let mut plan = RunPlan::default();
    // Without a terminal it asks for a prompt only if it is told to.
    plan.args = ["python", "-q", "-i", "-c", SESSION]
        .map(str::to_owned)
        .into();
    plan.preopens = vec![GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    let Freezing::Frozen(checkpoint) = freeze(&guest, &base, &plan, &config, &Point::Stdin)? else {
        return Err("the session ended before it came to its prompt".into());
    };
    println!("frozen: {:?}", checkpoint.info());

    // Compiled once for all branches.
    let runner = checkpoint.runner(config)?;
    let mut answers = Vec::new();
    for code in BRANCHES {
        let prompt = Arc::new(Prompt::new(format!("{code}{REST}")));
        let mut plan = checkpoint.plan();
        plan.keep_file_systems = true;
        plan.stdio = Stdio::Streams(Arc::clone(&prompt) as Arc<dyn StandardStreams>);
        let start = Instant::now();
        let mut report = runner.run(checkpoint.image(), &plan)?;
        let took = start.elapsed();
        if let Some(failed) = report.failed().next() {
            let errors = prompt.errors.contents();
            let errors = String::from_utf8_lossy(&errors);
            return Err(format!("{code}: {}\n{errors}", failed.outcome).into());
        }
        let fs = report.file_systems.pop().ok_or("one instance ran")?;
        let said = prompt.said.contents();
        println!("{:?} after {took:?}", String::from_utf8_lossy(&said));
        answers.push((fs.read_to_string("/answer")?, fs));
    }
    let shortest = answers.into_iter().min_by_key(|(answer, _)| answer.len());
    let (answer, fs) = shortest.ok_or("four branches ran")?;
    println!("kept {answer:?}, whose session left");
    for change in fs.changes()? {
        let path = change.path().to_string();
        // Those are shown by the host, and in no image.
        if !path.starts_with(".stratafs/") {
            println!("  {path}: {} bytes", change.size());
        }
    }
    let made = fs.commit(
        &store,
        &"session:best".parse()?,
        "the session of the shortest answer",
    )?;
    println!("committed as session:best, {}", made.id);
    let kept = store.image("session:best")?;
    let log = stratafs::vfs::Fs::new(&kept).read_to_string("/log")?;
    println!("its log: {log:?}");
    Ok(())
}
