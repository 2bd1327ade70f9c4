//! A checkpoint at rest: two files of an image.
//!
//! The program that goes on from the point lies in the image as [`PROGRAM`], and what is
//! known of it as [`STATE`], a JSON document. So an image of a checkpoint is an image like
//! any other: every tool that copies, signs, exports or collects images does it with these, and
//! equal pieces of two checkpoints are held once.
//!
//! What is read comes from anywhere. The program is validated by the engine as every guest
//! is; what the state asks to be opened is opened as a guest would, below the directories
//! that the run shows.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::checkpoint::FrozenParts;
use super::info::{CheckpointInfo, needed_dirs};
use super::known::SavedKnown;
use super::shown::{is_shown, put};
use super::{Checkpoint, CheckpointError};
use crate::checkpoint::is_feature;
use crate::chunk::Content;
use crate::digest::Digest;
use crate::errno::Errno;
use crate::error::Error;
use crate::image::Image;
use crate::layer::{EntryBody, Layer, LayerBuilder};
use crate::limits::{MAX_CHECKPOINT_PROGRAM, MAX_CHECKPOINT_STATE, MAX_SHOWN_DIRS};
use crate::runner::program_bytes::ProgramBytes;
use crate::runner::{Guest, GuestDir, RunPlan};
use crate::vfs::{Access, Fs, Rights};
use crate::wasi::p1::{Described, OpenFile};

/// The program that goes on from the point.
pub(super) const PROGRAM: &str = "/.stratafs/frozen/program.wasm";

/// What is known of it.
pub(super) const STATE: &str = "/.stratafs/frozen/state.json";

/// What says so to whoever looks into the image.
const NOTICE: &str = "/.stratafs/frozen/NOTICE";

const NOTICE_TEXT: &str = "\
program.wasm holds the memory of a running program as it stood at the point that state.json names, and
state.json its arguments and its environment. Whatever the program had read until then is in there, keys
and passwords among it: who has this image has them. All that goes on from here shares the random numbers
that the program had drawn.
";

/// The version of the document. One that is newer is refused.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedState {
    version: u32,
    point: String,
    program: String,
    program_digest: String,
    module_digest: String,
    frames: usize,
    memory_bytes: u64,
    own_bytes: u64,
    monotonic_ns: u64,
    wall_ns: u64,
    /// The proposals that the engine has to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    features: Vec<String>,
    random_calls: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changed_volumes: Vec<String>,
    /// Bytes that those gave.
    random_bytes: u64,
    /// Where in the random numbers of its devices a guest stands that repeats.
    #[serde(default, skip_serializing_if = "is_zero")]
    device_bytes: u64,
    args: Vec<String>,
    env: Vec<(String, String)>,
    preopens: Vec<SavedPreopen>,
    furnished: bool,
    /// Whether files without a name lie in the image.
    hidden: bool,
    /// Whether the guest needs a `/dev` that is not the devices' own. Documents that do not say so
    /// are of guests that need the devices' own, or none.
    #[serde(default, skip_serializing_if = "is_zero")]
    other_dev: bool,
    descriptors: Vec<SavedDescriptor>,
    /// What the guest knows of its files.
    known: SavedKnown,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedPreopen {
    dir: String,
    guest: String,
    read_only: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
enum SavedDescriptor {
    Closed,
    Stream {
        number: u32,
    },
    Preopen {
        name: String,
    },
    Dir {
        preopen: String,
        path_hex: String,
        read: bool,
    },
    File {
        preopen: String,
        path_hex: String,
        read: bool,
        write: bool,
        offset: u64,
        append: bool,
        nonblock: bool,
        /// The bits of preview1's flags DSYNC (2), RSYNC (8) and SYNC (16).
        #[serde(default, skip_serializing_if = "is_zero")]
        sync: u8,
    },
}

fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

/// The bits of synchronised calls at rest, and what stands for them.
const SYNC_BITS: [(u8, Access); 3] = [(2, Access::DSYNC), (8, Access::RSYNC), (16, Access::SYNC)];

fn sync_bits(sync: Access) -> u8 {
    let asked = SYNC_BITS.iter().filter(|(_, one)| sync.contains(*one));
    asked.fold(0, |bits, (bit, _)| bits | bit)
}

/// Returns what the bits stand for; `None` if there are others.
fn sync_of(bits: u8) -> Option<Access> {
    let asked = SYNC_BITS.iter().filter(|(bit, _)| bits & bit != 0);
    let (bits_left, sync) = asked.fold((bits, Access::empty()), |(bits, all), (bit, one)| {
        (bits & !bit, all | *one)
    });
    (bits_left == 0).then_some(sync)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing into a text cannot fail.
        let _always = write!(out, "{byte:02x}");
        out
    })
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex || !text.len().is_multiple_of(2) {
        return None;
    }
    let digits = text.as_bytes().chunks_exact(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok())
        .collect()
}

impl From<&Described> for SavedDescriptor {
    fn from(described: &Described) -> Self {
        match described {
            Described::Closed => Self::Closed,
            Described::Stream(number) => Self::Stream { number: *number },
            Described::Preopen { name } => Self::Preopen { name: name.clone() },
            Described::Open {
                preopen,
                path,
                access,
                file: None,
            } => Self::Dir {
                preopen: preopen.clone(),
                path_hex: hex(path),
                read: access.contains(Access::READ),
            },
            Described::Open {
                preopen,
                path,
                access,
                file: Some(file),
            } => Self::File {
                preopen: preopen.clone(),
                path_hex: hex(path),
                read: access.contains(Access::READ),
                write: access.contains(Access::WRITE),
                offset: file.offset,
                append: file.append,
                nonblock: file.nonblock,
                sync: sync_bits(file.sync),
            },
        }
    }
}

impl SavedDescriptor {
    /// As [`Described::shown`].
    fn shown(&self) -> Option<&str> {
        match self {
            Self::Closed | Self::Stream { .. } => None,
            Self::Preopen { name } => Some(name),
            Self::Dir { preopen, .. } | Self::File { preopen, .. } => Some(preopen),
        }
    }

    fn described(self) -> Option<Described> {
        let access = |read, write| {
            let mut access = Access::empty();
            access.set(Access::READ, read);
            access.set(Access::WRITE, write);
            access
        };
        Some(match self {
            Self::Closed => Described::Closed,
            Self::Stream { number } => Described::Stream(number),
            Self::Preopen { name } => Described::Preopen { name },
            Self::Dir {
                preopen,
                path_hex,
                read,
            } => Described::Open {
                preopen,
                path: unhex(&path_hex)?,
                access: access(read, false),
                file: None,
            },
            Self::File {
                preopen,
                path_hex,
                read,
                write,
                offset,
                append,
                nonblock,
                sync,
            } => Described::Open {
                preopen,
                path: unhex(&path_hex)?,
                access: access(read, write),
                file: Some(OpenFile {
                    offset,
                    append,
                    nonblock,
                    sync: sync_of(sync)?,
                }),
            },
        })
    }
}

/// Returns whether a layer has an entry of the root, which says when it was changed.
fn says_root(layer: &Layer) -> bool {
    let root = layer.entries().next();
    root.is_some_and(|root| matches!(root.body, EntryBody::Dir { meta: Some(_), .. }))
}

impl Checkpoint {
    /// Returns an instance whose changes are the checkpoint: what the guest changed of its
    /// base, the program and its state. Committing it makes an image that
    /// [`open`](Self::open) reads.
    ///
    /// Holds the program once more.
    ///
    /// # Errors
    /// Those of [`Fs::apply`], [`module`](Self::module) and [`Fs::write`].
    pub fn to_fs(&self) -> Result<Fs, CheckpointError> {
        let parts = self.parts();
        let fs = Fs::new(&parts.base);
        let apply = || fs.apply("/", &parts.changes);
        match says_root(&parts.changes) {
            true => apply()?,
            false => put(&fs, apply)?,
        }
        put(&fs, || fs.create_dir_all("/.stratafs/frozen"))?;
        let module = parts.program.wasm()?;
        fs.write(PROGRAM, &*module)?;
        let state = SavedState::of(parts, &module);
        let failed = |errno| Error::new("write", STATE.as_bytes(), errno);
        let text = serde_json::to_vec(&state).map_err(|_| failed(Errno::Io))?;
        let is_refused = parts.preopens.len() > MAX_SHOWN_DIRS;
        if is_refused || text.len() as u64 > MAX_CHECKPOINT_STATE {
            return Err(failed(Errno::FileTooLarge).into());
        }
        fs.write(STATE, text)?;
        fs.write(NOTICE, NOTICE_TEXT)?;
        Ok(fs)
    }

    /// Reads the checkpoint of an image; `None` if it has none.
    ///
    /// The program is not read before it is needed, and compared with its digests then: by
    /// [`runner`](Self::runner) if its code is not in the cache, [`freeze`](Self::freeze),
    /// [`module`](Self::module) and [`to_fs`](Self::to_fs).
    ///
    /// # Errors
    /// [`CheckpointError`] if it is damaged, of a newer version, or asks for what no guest
    /// can have.
    pub fn open(image: &Image) -> Result<Option<Self>, CheckpointError> {
        let fs = Fs::new(image);
        let Some(state) = SavedState::read(&fs)? else {
            return Ok(None);
        };
        let content = program_of(&fs)?;
        state.into_checkpoint(image, content).map(Some)
    }

    /// Returns what is known of the checkpoint of an image, without reading the program;
    /// `None` if it has none.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn inspect(image: &Image) -> Result<Option<CheckpointInfo>, CheckpointError> {
        let state = SavedState::read(&Fs::new(image))?;
        state.map(|state| state.info()).transpose()
    }

    /// Takes what belongs to a checkpoint out of an instance that went on from one, so that
    /// an image made of it starts from the beginning. Returns whether there was
    /// something.
    ///
    /// # Errors
    /// Those of [`Fs::remove_dir_all`].
    pub fn remove_from(fs: &Fs) -> Result<bool, Error> {
        if !fs.exists(STATE)? {
            return Ok(false);
        }
        put(fs, || {
            for dir in ["/.stratafs/frozen", super::files::HIDDEN] {
                if fs.exists(dir)? {
                    fs.remove_dir_all(dir)?;
                }
            }
            // Unless the guest or its base have something in it.
            let base = Fs::new(fs.image());
            for entry in fs.read_dir("/.stratafs")? {
                if !is_shown(entry.name()) || base.exists(entry.path())? {
                    return Ok(());
                }
            }
            fs.remove_dir_all("/.stratafs")
        })?;
        Ok(true)
    }
}

/// Finds the program of an image, without reading it.
fn program_of(fs: &Fs) -> Result<Content, Error> {
    let content = fs.base_content(PROGRAM)?;
    match content.size() > MAX_CHECKPOINT_PROGRAM {
        true => Err(Error::new("read", PROGRAM.as_bytes(), Errno::FileTooLarge)),
        false => Ok(content),
    }
}

fn damaged(reason: impl Into<String>) -> CheckpointError {
    CheckpointError::Damaged {
        reason: reason.into(),
    }
}

/// Says why the document cannot be read, in one line whatever stands in it.
fn not_read(error: &serde_json::Error) -> CheckpointError {
    let shown = |character: char| match character.is_control() {
        true => character.escape_debug().to_string(),
        false => character.to_string(),
    };
    let said: String = error.to_string().chars().map(shown).collect();
    damaged(format!("{STATE}: {said}"))
}

impl SavedState {
    fn of(parts: &FrozenParts, module: &[u8]) -> Self {
        let info = &parts.info;
        Self {
            version: VERSION,
            point: info.point.clone(),
            program: parts.program.name().to_owned(),
            program_digest: info.program_digest.to_string(),
            module_digest: Digest::of(module).to_string(),
            frames: info.frames,
            memory_bytes: info.memory_bytes,
            own_bytes: info.own_bytes,
            monotonic_ns: info.monotonic_ns,
            wall_ns: info.wall_ns,
            features: info.features.clone(),
            random_calls: info.random_calls,
            changed_volumes: info.changed_volumes.clone(),
            random_bytes: parts.random_bytes,
            device_bytes: parts.device_bytes,
            args: parts.args.clone(),
            env: parts.env.clone(),
            preopens: parts
                .preopens
                .iter()
                .map(|preopen| SavedPreopen {
                    dir: preopen.dir.clone(),
                    guest: preopen.guest.clone(),
                    read_only: preopen.rights == Rights::ReadOnly,
                })
                .collect(),
            furnished: parts.furnished,
            hidden: parts.hidden,
            other_dev: parts.other_dev,
            descriptors: parts.table.iter().map(SavedDescriptor::from).collect(),
            known: parts.known.clone(),
        }
    }

    fn read(fs: &Fs) -> Result<Option<Self>, CheckpointError> {
        let text = match fs.read_up_to(STATE, MAX_CHECKPOINT_STATE) {
            Ok(text) => text,
            Err(error) if matches!(error.errno(), Errno::NoEntry | Errno::NotDirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let version: Version = serde_json::from_slice(&text).map_err(|error| not_read(&error))?;
        if version.version != VERSION {
            return Err(CheckpointError::Version {
                found: version.version,
                known: VERSION,
            });
        }
        let state: Self = serde_json::from_slice(&text).map_err(|error| not_read(&error))?;
        Ok(Some(state))
    }

    fn info(&self) -> Result<CheckpointInfo, CheckpointError> {
        if let Some(name) = self.features.iter().find(|name| !is_feature(name)) {
            let name = name.clone();
            return Err(CheckpointError::Feature { name });
        }
        let digest = self.program_digest.parse();
        Ok(CheckpointInfo {
            point: self.point.clone(),
            program_digest: digest
                .map_err(|_| damaged(format!("{STATE}: {:?} is no digest", self.program_digest)))?,
            frames: self.frames,
            memory_bytes: self.memory_bytes,
            own_bytes: self.own_bytes,
            monotonic_ns: self.monotonic_ns,
            wall_ns: self.wall_ns,
            features: self.features.clone(),
            random_calls: self.random_calls,
            needed_dirs: needed_dirs(
                self.descriptors.iter().filter_map(SavedDescriptor::shown),
                self.preopens.iter().map(|own| own.guest.as_str()).collect(),
            ),
            changed_volumes: self.changed_volumes.clone(),
        })
    }

    fn into_checkpoint(
        self,
        image: &Image,
        content: Content,
    ) -> Result<Checkpoint, CheckpointError> {
        let info = self.info()?;
        if !self.known.is_sound(self.descriptors.len()) {
            return Err(damaged(format!(
                "{STATE}: what the guest knows of its files cannot be"
            )));
        }
        let table = self
            .descriptors
            .into_iter()
            .map(SavedDescriptor::described)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                damaged(format!(
                    "{STATE}: a path is not pairs of hex digits, or a flag is not known"
                ))
            })?;
        let preopens = self.preopens.into_iter().map(|shown| GuestDir {
            dir: shown.dir,
            guest: shown.guest,
            rights: match shown.read_only {
                true => Rights::ReadOnly,
                false => Rights::ReadWrite,
            },
        });
        let plan = RunPlan {
            args: self.args,
            env: self.env,
            tell_number: false,
            preopens: preopens.collect(),
            ..RunPlan::default()
        };
        plan.check()
            .map_err(|error| damaged(format!("{STATE}: no guest was told this: {error}")))?;
        let digest = self.module_digest.parse();
        let digest = digest
            .map_err(|_| damaged(format!("{STATE}: {:?} is no digest", self.module_digest)))?;
        let program = Guest::core(
            self.program,
            ProgramBytes::Frozen {
                content,
                digest,
                place: PROGRAM,
            },
        );
        Ok(Checkpoint::new(FrozenParts {
            program,
            image: image.clone(),
            base: image.clone(),
            changes: LayerBuilder::new()
                .finish()
                .map_err(|error| damaged(error.to_string()))?,
            table,
            hidden: self.hidden,
            other_dev: self.other_dev,
            args: plan.args,
            env: plan.env,
            preopens: plan.preopens,
            furnished: self.furnished,
            random_bytes: self.random_bytes,
            device_bytes: self.device_bytes,
            known: self.known,
            known_image: OnceLock::new(),
            info,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{ChunkPool, ContentBuilder};
    use crate::meta::Meta;
    use crate::name::LayerPath;

    /// An image with files of so many bytes, all of them holes.
    fn with_holes(files: &[(&str, u64)]) -> Image {
        let path = |text: &str| LayerPath::parse(text.trim_matches('/').as_bytes()).unwrap();
        let pool = ChunkPool::new();
        let mut layer = LayerBuilder::new();
        for dir in ["/.stratafs", "/.stratafs/frozen"] {
            layer.dir(&path(dir), Meta::with_mode(0o755)).unwrap();
        }
        for (file, bytes) in files {
            let mut content = ContentBuilder::new(&pool);
            content.hole(*bytes);
            let meta = Meta::with_mode(0o644);
            layer.file(&path(file), meta, content.finish()).unwrap();
        }
        Image::new(&[layer.finish().unwrap()]).unwrap()
    }

    #[test]
    fn programs_and_states_have_a_bound() {
        let image = with_holes(&[(PROGRAM, MAX_CHECKPOINT_PROGRAM + 1)]);
        let error = program_of(&Fs::new(&image)).unwrap_err();
        assert_eq!(error.errno(), Errno::FileTooLarge);
        let image = with_holes(&[(PROGRAM, MAX_CHECKPOINT_PROGRAM)]);
        assert!(program_of(&Fs::new(&image)).is_ok());
        let refused = |bytes| {
            let opened = Checkpoint::open(&with_holes(&[(STATE, bytes)]));
            opened.err().unwrap().to_string()
        };
        let error = refused(MAX_CHECKPOINT_STATE + 1);
        assert!(error.contains("state.json"), "{error}");
        // At the bound it is read, and is no document.
        let error = refused(MAX_CHECKPOINT_STATE);
        assert!(error.contains("damaged"), "{error}");
    }

    #[test]
    fn what_a_state_says_is_told_in_one_line() {
        let fs = Fs::new(&Image::empty());
        fs.create_dir_all("/.stratafs/frozen").unwrap();
        fs.write(STATE, r#"{"version": "1\n\u001b[2Jerror: no"}"#)
            .unwrap();
        let error = SavedState::read(&fs).err().unwrap().to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
        assert!(error.contains("error: no"), "{error:?}");
    }
}
