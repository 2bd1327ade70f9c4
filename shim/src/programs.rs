//! The programs of containers: found in their root, compiled once for all of them.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use stratafs::digest::Digest;
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::runner::freeze::Checkpoint;
use stratafs::runner::{Guest, Runner, RunnerConfig};
use stratafs::source::ArtifactProgram;
use stratafs::vfs::Fs;

use crate::containerd::Containerd;
use crate::limits::{MAX_CONTAINERS, MAX_PROGRAM_BYTES, MAX_PROGRAMS};
use crate::ready::ReadyProgram;
use crate::rootfs::Root;
use crate::spec::ContainerSpec;
use crate::status::Status;

/// Where a program without a slash in its name is looked for if no `PATH` says it.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Compiled programs, for all containers of this process.
pub struct Programs {
    cache_dir: Option<PathBuf>,
    /// The one that was used last comes last. Held while one is compiled, which takes all
    /// processors anyway.
    known: Mutex<Vec<(Digest, Arc<Runner>)>>,
}

impl Programs {
    /// Begins without any; compiled code is kept in `cache_dir`.
    #[must_use]
    pub fn new(cache_dir: Option<PathBuf>) -> Self {
        Self {
            cache_dir,
            known: Mutex::default(),
        }
    }

    /// Finds the program of a container and makes it ready. An empty root may be that of an artifact,
    /// of which containerd knows.
    ///
    /// # Errors
    /// There is none, or it is none that runs here.
    pub fn open(
        &self,
        root: &Root,
        spec: &ContainerSpec,
        (containerd, container): (&Containerd, &str),
    ) -> Result<ReadyProgram, Status> {
        let places = places(spec);
        if let Some(program) = root.frozen.lock().clone() {
            return Ok(program);
        }
        if let Some((digest, runner)) = places.first().and_then(|place| root.program(place)) {
            // It is the one that was used last.
            let _marked = self.known_as(digest);
            return Ok(ReadyProgram::from_start(runner));
        }
        let checkpoint = Checkpoint::open(&root.image)
            .map_err(|error| Status::invalid(format_args!("prepared image: {error}")))?;
        if let Some(checkpoint) = checkpoint {
            return self.thaw(root, checkpoint);
        }
        if root.is_empty()
            && let Some(runner) = self.of_artifact(containerd, container)?
        {
            return Ok(ReadyProgram::from_start(runner));
        }
        let (place, guest) = find(&root.image, &places)?;
        let runner = self.compile(&guest)?;
        root.found(place, guest.identity(), &runner);
        Ok(ReadyProgram::from_start(runner))
    }

    /// Makes a frozen guest ready to go on, once for all containers of its root.
    fn thaw(&self, root: &Root, checkpoint: Checkpoint) -> Result<ReadyProgram, Status> {
        let _compiles = self.known.lock();
        if let Some(program) = root.frozen.lock().clone() {
            return Ok(program);
        }
        let runner = checkpoint.runner(self.config());
        let runner =
            runner.map_err(|error| Status::invalid(format_args!("prepared image: {error}")))?;
        let program = ReadyProgram {
            runner: Arc::new(runner),
            checkpoint: Some(checkpoint),
        };
        *root.frozen.lock() = Some(program.clone());
        Ok(program)
    }

    fn config(&self) -> RunnerConfig {
        let mut config = RunnerConfig::default();
        config.controllable = true;
        config.network_of_plan = true;
        config.threads = MAX_CONTAINERS;
        config.cache_dir.clone_from(&self.cache_dir);
        config
    }

    fn compile(&self, guest: &Guest) -> Result<Arc<Runner>, Status> {
        // Only bytes that have this digest are compiled.
        self.compile_as(guest.identity(), || Ok(guest.clone()))
    }

    /// Makes the program of a container's artifact ready. What containerd is slow to tell keeps no other
    /// container waiting.
    fn of_artifact(
        &self,
        containerd: &Containerd,
        container: &str,
    ) -> Result<Option<Arc<Runner>>, Status> {
        let mut known = None;
        let artifact = containerd.artifact_of(container, |program| {
            known = self.known_as(artifact_key(program));
            known.is_some()
        })?;
        let Some(artifact) = artifact else {
            return Ok(None);
        };
        let (Some(bytes), None) = (artifact.bytes, &known) else {
            return Ok(known);
        };
        let name = format!("artifact {}", artifact.program.digest);
        let guest = || Guest::from_bytes(name, bytes).map_err(Status::invalid);
        let key = artifact_key(&artifact.program);
        self.compile_as(key, guest).map(Some)
    }

    /// Returns what is ready under a digest, and marks it as used; nothing while another program is
    /// compiled.
    fn known_as(&self, digest: Digest) -> Option<Arc<Runner>> {
        let mut known = self.known.try_lock()?;
        used(&mut known, digest)
    }

    fn compile_as(
        &self,
        digest: Digest,
        guest: impl FnOnce() -> Result<Guest, Status>,
    ) -> Result<Arc<Runner>, Status> {
        let mut known = self.known.lock();
        if let Some(runner) = used(&mut known, digest) {
            return Ok(runner);
        }
        let runner = Arc::new(Runner::new(&guest()?, self.config()).map_err(Status::invalid)?);
        if known.len() >= MAX_PROGRAMS {
            known.remove(0);
        }
        known.push((digest, Arc::clone(&runner)));
        Ok(runner)
    }
}

/// Finds a program that is ready, which becomes the one that was used last.
fn used(known: &mut Vec<(Digest, Arc<Runner>)>, digest: Digest) -> Option<Arc<Runner>> {
    let at = known.iter().position(|(of, _)| *of == digest)?;
    let found = known.remove(at);
    let runner = Arc::clone(&found.1);
    known.push(found);
    Some(runner)
}

/// Returns what the program of an artifact is known by, whose bytes need not be at hand.
fn artifact_key(program: &ArtifactProgram) -> Digest {
    Digest::of(format!("artifact {}", program.digest).as_bytes())
}

/// Returns where the program may lie, as a kernel and a shell would look.
fn places(spec: &ContainerSpec) -> Vec<String> {
    let Some(name) = spec.args.first() else {
        return Vec::new();
    };
    if name.starts_with('/') {
        return vec![name.clone()];
    }
    let below = |dir: &str| format!("{}/{name}", dir.trim_end_matches('/'));
    if name.contains('/') {
        return vec![below(&spec.cwd)];
    }
    let path = spec.env.iter().find(|(variable, _)| variable == "PATH");
    let path = path.map_or(USUAL_PATH, |(_, path)| path.as_str());
    // Images of lone programs have them in the root, and name them without a slash.
    let dirs = path.split(':').filter(|dir| dir.starts_with('/'));
    dirs.chain(["/"]).map(below).collect()
}

/// Finds the first of the files that is there, and what it has to run.
fn find(image: &Image, places: &[String]) -> Result<(String, Guest), Status> {
    let fs = Fs::new(image);
    let mut missing = None;
    for place in places {
        match fs.metadata(place.as_str()) {
            Ok(stat) if stat.size > MAX_PROGRAM_BYTES => {
                return Err(Status::invalid(format_args!(
                    "program {place}: expected at most {MAX_PROGRAM_BYTES} bytes, found {}",
                    stat.size
                )));
            }
            Ok(_) => {
                let guest = Guest::in_image(place.as_str(), image, place.as_str());
                return Ok((place.clone(), guest.map_err(Status::invalid)?));
            }
            Err(error) if matches!(error.errno(), Errno::NoEntry | Errno::NotDirectory) => {
                missing.get_or_insert(error);
            }
            Err(error) => return Err(Status::invalid(format_args!("program {place}: {error}"))),
        }
    }
    Err(match missing {
        Some(error) => Status::invalid(format_args!("program {}: {error}", places.join(", "))),
        None => Status::invalid("process.args: no program is named"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, path: Option<&str>) -> ContainerSpec {
        ContainerSpec {
            args: vec![name.into()],
            env: path
                .map(|path| ("PATH".into(), path.into()))
                .into_iter()
                .collect(),
            cwd: "/srv/".into(),
            ..ContainerSpec::default()
        }
    }

    #[test]
    fn programs_are_looked_for_as_elsewhere() {
        assert_eq!(places(&spec("/app.wasm", None)), ["/app.wasm"]);
        assert_eq!(places(&spec("./app.wasm", None)), ["/srv/./app.wasm"]);
        let searched = places(&spec("app", Some("/a:rel::/b/")));
        assert_eq!(searched, ["/a/app", "/b/app", "/app"]);
        assert_eq!(places(&spec("app", None)).len(), 7);
        assert!(places(&ContainerSpec::default()).is_empty());
    }

    #[test]
    fn programs_are_kept_up_to_a_bound() {
        let programs = Programs::new(None);
        let guest = |name: &str, at: usize| {
            let text = format!("(module (func (export \"_start\") (drop (i32.const {at}))))");
            Guest::from_bytes(name, text).unwrap()
        };
        let first = programs.compile(&guest("0", 0)).unwrap();
        let again = programs.compile(&guest("same", 0)).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        for at in 1..=MAX_PROGRAMS {
            programs.compile(&guest("next", at)).unwrap();
        }
        let known = programs.known.lock();
        assert_eq!(known.len(), MAX_PROGRAMS);
        assert!(!known.iter().any(|(_, runner)| Arc::ptr_eq(runner, &first)));
    }
}
