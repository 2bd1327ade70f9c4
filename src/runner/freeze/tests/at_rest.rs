//! Programs of checkpoints that lie in images: read when they have to be compiled, and compared
//! with what was said of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::chunk::counted::CountedBytes;
use crate::chunk::{ChunkPool, Content, ContentBuilder, digest_of_bytes};
use crate::digest::Digest;
use crate::layer::LayerBuilder;
use crate::meta::Meta;
use crate::name::LayerPath;
use crate::runner::{Allocator, CacheUse, RunnerError};

const PROGRAM: &str = ".stratafs/frozen/program.wasm";
const STATE: &str = ".stratafs/frozen/state.json";

fn frozen(wat: &str) -> Checkpoint {
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let (written, config) = (Arc::default(), RunnerConfig::default());
    let point = "call:fd_write:1".parse().unwrap();
    let frozen = freeze(&guest, &Image::empty(), &plan(&written), &config, &point);
    match frozen.unwrap() {
        Freezing::Frozen(checkpoint) => checkpoint,
        Freezing::Ended(outcome) => panic!("{outcome}"),
    }
}

/// What an image says of a program, and what lies there.
struct ImageParts {
    state: Vec<u8>,
    content: Digest,
    bytes: Vec<u8>,
    reads: Arc<AtomicUsize>,
}

impl ImageParts {
    fn of(checkpoint: &Checkpoint) -> Self {
        let fs = checkpoint.to_fs().unwrap();
        let bytes = fs.read(format!("/{PROGRAM}")).unwrap();
        Self {
            state: fs.read(format!("/{STATE}")).unwrap(),
            content: digest_of_bytes(&bytes),
            bytes,
            reads: Arc::default(),
        }
    }

    fn open(&self) -> Checkpoint {
        let path = |text: &str| LayerPath::parse(text.as_bytes()).unwrap();
        let pool = ChunkPool::new();
        let mut layer = LayerBuilder::new();
        for dir in [".stratafs", ".stratafs/frozen"] {
            layer.dir(&path(dir), Meta::with_mode(0o755)).unwrap();
        }
        let bytes = CountedBytes::new(self.bytes.clone(), &self.reads);
        let size = self.bytes.len() as u64;
        let program = Content::at_rest(size, self.content, Box::new(bytes));
        let meta = Meta::with_mode(0o644);
        layer.file(&path(PROGRAM), meta.clone(), program).unwrap();
        let state = ContentBuilder::of(&pool, &self.state);
        layer.file(&path(STATE), meta, state).unwrap();
        let image = Image::new(&[layer.finish().unwrap()]).unwrap();
        Checkpoint::open(&image).unwrap().unwrap()
    }

    fn reads(&self) -> usize {
        self.reads.swap(0, Ordering::Relaxed)
    }

    fn runner(&self, cache: &tempfile::TempDir) -> Result<Runner, RunnerError> {
        self.open().runner(cached_in(cache))
    }

    fn printed(&self, cache: &tempfile::TempDir) -> String {
        let written = Arc::default();
        let runner = self.runner(cache).unwrap();
        let report = runner.run(self.open().image(), &plan(&written)).unwrap();
        ran(&written, &report.instances[0].outcome).text
    }
}

fn cached_in(cache: &tempfile::TempDir) -> RunnerConfig {
    RunnerConfig {
        cache_dir: Some(cache.path().to_owned()),
        ..RunnerConfig::default()
    }
}

fn prints(digit: u32) -> Checkpoint {
    frozen(&command(&format!(
        r#"(func (export "_start") (call $print (i32.const {digit})))"#
    )))
}

#[test]
fn a_program_is_read_where_it_is_not_compiled_yet() {
    let (cache, kept) = (tempfile::tempdir().unwrap(), ImageParts::of(&prints(1)));
    drop(kept.open());
    assert_eq!(kept.reads(), 0);
    assert_eq!(*kept.runner(&cache).unwrap().cache(), CacheUse::Miss);
    assert_ne!(kept.reads(), 0);
    assert_eq!(*kept.runner(&cache).unwrap().cache(), CacheUse::Hit);
    assert_eq!(kept.printed(&cache), "1");
    assert_eq!(kept.reads(), 0);
    // Where it was frozen the same code is found.
    let config = cached_in(&cache);
    assert_eq!(*prints(1).runner(config).unwrap().cache(), CacheUse::Hit);
    assert_eq!(*kept.open().module().unwrap(), kept.bytes);
}

#[test]
fn what_was_compiled_beforehand_is_mapped() {
    let (cache, kept) = (tempfile::tempdir().unwrap(), ImageParts::of(&prints(1)));
    let compile = |config: &RunnerConfig| kept.open().compile(config).unwrap();
    assert_eq!(compile(&cached_in(&cache)), CacheUse::Miss);
    assert_eq!(compile(&cached_in(&cache)), CacheUse::Hit);
    let runner = kept.runner(&cache).unwrap();
    assert_eq!(*runner.cache(), CacheUse::Hit);
    assert_eq!(*runner.allocator(), Allocator::Pooling);
    assert_eq!(kept.printed(&cache), "1");
    let nowhere = RunnerConfig::default();
    assert_eq!(compile(&nowhere), CacheUse::Off { reason: None });
    // Other limits are other code.
    let limited = RunnerConfig {
        fuel: Some(1000),
        ..cached_in(&cache)
    };
    assert_eq!(compile(&limited), CacheUse::Miss);
}

/// Who compiles the other image later compiles what that one holds.
#[test]
fn a_program_under_the_digest_of_another_one_is_not_compiled_beforehand() {
    let forged = ImageParts {
        state: ImageParts::of(&prints(1)).state,
        ..ImageParts::of(&prints(2))
    };
    let cache = tempfile::tempdir().unwrap();
    let error = forged.open().compile(&cached_in(&cache)).unwrap_err();
    assert!(matches!(error, RunnerError::Unreadable { .. }), "{error:?}");
    let honest = ImageParts::of(&prints(1));
    assert_eq!(*honest.runner(&cache).unwrap().cache(), CacheUse::Miss);
    assert_eq!(honest.printed(&cache), "1");
}

/// Who runs the other image later runs what that one holds.
#[test]
fn a_program_under_the_digest_of_another_one_is_not_compiled_for_it() {
    let (one, two) = (ImageParts::of(&prints(1)), ImageParts::of(&prints(2)));
    let forged = ImageParts {
        state: one.state.clone(),
        ..ImageParts::of(&prints(2))
    };
    let cache = tempfile::tempdir().unwrap();
    let error = forged.runner(&cache).map(drop).unwrap_err();
    assert!(matches!(error, RunnerError::Unreadable { .. }), "{error:?}");
    let said = error.to_string();
    assert!(
        said.contains("damaged: expected the digest blake3:"),
        "{said}"
    );
    assert!(forged.open().module().is_err());
    assert!(forged.open().to_fs().is_err());
    assert_eq!(
        (one.printed(&cache), two.printed(&cache)),
        ("1".into(), "2".into())
    );
    // Nor is it taken for the honest one, whose code is at hand by now.
    assert!(forged.runner(&cache).is_err());
    // Where the index says so as well, it names the honest one.
    let both = ImageParts {
        content: one.content,
        state: one.state.clone(),
        ..ImageParts::of(&prints(2))
    };
    assert_eq!(both.printed(&cache), "1");
    // Where the index alone does, it is a program of its own.
    let forged = ImageParts {
        content: one.content,
        ..ImageParts::of(&prints(2))
    };
    assert_eq!(forged.printed(&cache), "2");
}
