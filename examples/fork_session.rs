//! One session of an interpreter, four ways on from its middle.
//!
//! `cargo run --release --features freeze,gzip --example fork_session -- python.wasm python.tar.gz`
//!
//! A CPython imports what it needs, keeps an open file and a variable, and asks for
//! `/code`. There it is frozen. Four instances go on from that point, each with other code in
//! `/code`, and the files of the one with the shortest answer are listed.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::Image;
use stratafs::layer::{Layer, LayerBuilder};
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::runner::freeze::{Freezing, Point, freeze};
use stratafs::runner::{Guest, GuestDir, RunPlan, RunnerConfig, Stdio};
use stratafs::vfs::Rights;

/// What the interpreter does before and after the point.
const SESSION: &str = "
import json, re
log = open('/log', 'w'); log.write('prepared\\n')
words = re.findall('[a-z]+', 'what four branches have in common')
exec(open('/code').read())
log.write('done\\n'); log.close()
";

/// What each branch tries.
const BRANCHES: [&str; 4] = [
    "answer = ' '.join(words)",
    "answer = '-'.join(sorted(words))",
    "answer = ''.join(word[0] for word in words)",
    "answer = json.dumps(words)",
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(program), Some(library)) = (words.next(), words.next()) else {
        return Err("expected a CPython of WASI preview1 and its library as a layer".into());
    };
    let guest = Guest::from_file(Path::new(&program))?;
    let library = Image::open([Path::new(&library)])?;
    let mut layers = library.layers().to_vec();
    layers.push(file("session.py", SESSION)?);
    let base = Image::new(&layers)?;

    let config = RunnerConfig::default();
    let mut plan = RunPlan::default();
    plan.args = vec!["python".into(), "/session.py".into()];
    plan.preopens = vec![GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    plan.stdio = Stdio::Output;
    let point = Point::Path("/code".into());
    let Freezing::Frozen(checkpoint) = freeze(&guest, &base, &plan, &config, &point)? else {
        return Err("the session ended before it asked for /code".into());
    };
    println!("frozen: {:?}", checkpoint.info());

    // Compiled once for all branches.
    let runner = checkpoint.runner(config)?;
    let mut answers = Vec::new();
    for code in BRANCHES {
        let code = format!("{code}\nopen('/answer', 'w').write(answer)");
        let mut layers = checkpoint.image().layers().to_vec();
        layers.push(file("code", &code)?);
        let mut plan = checkpoint.plan();
        plan.keep_file_systems = true;
        plan.stdio = Stdio::Output;
        let start = Instant::now();
        let mut report = runner.run(&Image::new(&layers)?, &plan)?;
        let fs = report.file_systems.pop().ok_or("one instance ran")?;
        let answer = fs.read_to_string("/answer")?;
        println!("{answer:?} after {:?}", start.elapsed());
        answers.push((answer, fs));
    }
    let shortest = answers.into_iter().min_by_key(|(answer, _)| answer.len());
    let (answer, fs) = shortest.ok_or("four branches ran")?;
    println!("kept {answer:?}, whose session left");
    for change in fs.changes()? {
        println!("  {}: {} bytes", change.path(), change.size());
    }
    Ok(())
}

/// A layer of one file.
fn file(name: &str, text: &str) -> Result<Layer, Box<dyn Error>> {
    let mut layer = LayerBuilder::new();
    let content = ContentBuilder::of(&ChunkPool::new(), text.as_bytes());
    layer.file(
        &LayerPath::parse(name.as_bytes())?,
        Meta::with_mode(0o644),
        content,
    )?;
    Ok(layer.finish()?)
}
