//! `RUN`: a guest of the stage over its files, whose changes are the layer.

use std::collections::HashMap;
use std::sync::Arc;

use memchr::memmem;
use parking_lot::Mutex;
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::layer::{EntryBody, Layer, LayerBuilder, LayerEntry};
use stratafs::meta::{Kind, Meta, Time};
use stratafs::name::LayerPath;
use stratafs::runner::{
    Guest, Network, Outcome as Ended, OutputSink, RunPlan, Runner, RunnerError, Stdio, Stream,
};
use stratafs::vfs::{Fs, VirtualClock};

use super::Builder;
use super::built::Built;
use super::cache::StepKey;
use super::copying::not_empty;
use super::lay;
use super::mounting::Mounted;
use super::secrets::search;
use super::steps::{GuestPlan, StepPlan};
use super::work::{Outcome, StepWork};
use crate::failure::{Failure, cut};
use crate::from_image;
use crate::limits::{MAX_PROGRAM_BYTES, MAX_RUN_OUTPUT_BYTES};

/// Lines of a guest's output that the error about it repeats.
const LAST_LINES: usize = 5;

/// Bytes of them.
const LAST_BYTES: usize = 500;

/// Nanoseconds in a year: what no guest's fixed clock passes.
const YEAR: u64 = 366 * 24 * 3600 * 1_000_000_000;

impl Builder<'_> {
    pub(super) fn run(
        &self,
        stage: &Built,
        plan: &GuestPlan,
        (step, say): (&StepPlan, &dyn Fn(&str)),
    ) -> Result<Outcome, Failure> {
        let mut mounted = self.mounted(plan)?;
        let doors = match plan.no_network {
            true => "",
            false => self.settings.doors.as_str(),
        };
        let env: Vec<String> = plan
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let json = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
        let key = StepKey {
            line: step.text.clone(),
            parts: vec![
                (
                    "what lies below, the guest included",
                    stage.digest().to_string(),
                ),
                ("the instruction", json(&plan.argv)),
                ("the environment", json(&env)),
                ("the working directory", plan.workdir.clone()),
                ("the mounts", mounted.key.join("\n")),
                ("the network", doors.to_owned()),
                ("the time", self.settings.epoch.secs().to_string()),
                (
                    "the version of stratafs",
                    env!("CARGO_PKG_VERSION").to_owned(),
                ),
            ],
        };
        let mounted = std::cell::RefCell::new(Some(std::mem::take(&mut mounted)));
        let make = |work: &StepWork<'_>| {
            let mounted = mounted.take().unwrap_or_default();
            let image = stage.image(self.store)?;
            self.made_by(&image, (plan, mounted), work, say)
        };
        self.kept_or_made(stage, &key, None, &make)
    }

    /// Runs the guest and takes what it changed.
    fn made_by(
        &self,
        image: &Image,
        (plan, mounted): (&GuestPlan, Mounted),
        work: &StepWork<'_>,
        say: &dyn Fn(&str),
    ) -> Result<Option<Layer>, Failure> {
        let mut run = RunPlan::default();
        run.args.clone_from(&plan.argv);
        run.env.clone_from(&plan.env);
        // A secret's variable goes before one of the stage with the same name.
        let is_secret = |name: &String| mounted.variables.iter().any(|(own, _)| own == name);
        run.env.retain(|(name, _)| !is_secret(name));
        run.env.extend(mounted.variables.iter().cloned());
        if !run.env.iter().any(|(name, _)| name == "PWD") {
            run.env.push(("PWD".to_owned(), plan.workdir.clone()));
        }
        run.working_dir = Some(plan.workdir.clone());
        run.tell_number = false;
        run.preopens = vec![crate::resolve::root()];
        run.furnished = true;
        run.deterministic = true;
        run.keep_file_systems = true;
        // What a guest writes is held in memory until it is a layer.
        run.budget.clone_from(&self.settings.budget);
        mounted.apply(&mut run);
        let output = Arc::new(Output::default());
        run.stdio = Stdio::Collect(output.clone());
        let guest = program(image, plan, &run)?;
        let mut config = self.settings.config.clone();
        if plan.no_network {
            config.network = Network::none();
        }
        let report = Runner::new(&guest, config)?.run(image, &run)?;
        let said = hidden(&output.take(), &mounted.secrets);
        say(&said);
        let ended = report.instances.first().map(|instance| &instance.outcome);
        if ended != Some(&Ended::Exited(0)) {
            return Err(failed(plan, ended, &said));
        }
        let Some(fs) = report.file_systems.first() else {
            return Err(Failure::new("the guest left no files"));
        };
        let diff = fs.diff(work.import.pool())?;
        search(&diff, &mounted.secrets).map_err(|found| found.in_layer())?;
        self.keep_caches(&mounted, &report.volumes)?;
        let targets = lay::real_places(image, &mounted.targets)?;
        let layer = tidied(&diff, image, &targets, self.settings.epoch)?;
        Ok(not_empty(layer))
    }
}

/// Reads the program out of the stage.
fn program(image: &Image, plan: &GuestPlan, run: &RunPlan) -> Result<Guest, Failure> {
    let name = plan.argv.first().map_or("", String::as_str);
    let fs = Fs::new(image);
    let is_file = |path: &String| fs.metadata(path).is_ok_and(|stat| stat.kind == Kind::File);
    let found = from_image::candidates(name, run).into_iter().find(is_file);
    let Some(path) = found else {
        return Err(Failure::new(format_args!(
            "{name:?} is not a file of this stage: COPY the program into it before, or name it by its whole path"
        )));
    };
    let bytes = fs
        .read_up_to(&path, MAX_PROGRAM_BYTES)
        .map_err(|error| match error.errno() {
            Errno::FileTooLarge => Failure::new(format_args!(
                "{path}: a program has at most {MAX_PROGRAM_BYTES} bytes"
            )),
            _ => error.into(),
        })?;
    let what = from_image::foreign(&bytes);
    match (Guest::from_bytes(path.clone(), bytes), what) {
        (Ok(guest), _) => Ok(guest),
        (Err(RunnerError::NotWasm { .. }), Some(what)) => Err(Failure::new(format_args!(
            "{path} is {what}, and RUN runs WebAssembly: COPY a build of it for WASI"
        ))),
        (Err(error), _) => Err(error.into()),
    }
}

/// Keeps the beginning of what a guest writes, and its end.
#[derive(Default)]
pub(super) struct Output(Mutex<Vec<u8>>);

impl OutputSink for Output {
    fn write(&self, _: u32, _: Stream, bytes: &[u8]) {
        let mut held = self.0.lock();
        held.extend_from_slice(bytes);
        if held.len() > 2 * MAX_RUN_OUTPUT_BYTES {
            let cut = held.len() - MAX_RUN_OUTPUT_BYTES;
            held.drain(..cut);
        }
    }
}

impl Output {
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock())
    }
}

/// Output with secrets left out.
fn hidden(bytes: &[u8], secrets: &[(String, Vec<u8>)]) -> String {
    let mut text = bytes.to_vec();
    // The longest first: one may have another in it.
    let mut longest: Vec<&[u8]> = secrets.iter().map(|(_, own)| own.trim_ascii()).collect();
    longest.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in longest {
        if secret.is_empty() {
            continue;
        }
        let mut out = Vec::with_capacity(text.len());
        let mut from = 0;
        for at in memmem::find_iter(&text, secret) {
            out.extend_from_slice(text.get(from..at).unwrap_or_default());
            out.extend_from_slice(b"***");
            from = at + secret.len();
        }
        out.extend_from_slice(text.get(from..).unwrap_or_default());
        text = out;
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn failed(plan: &GuestPlan, ended: Option<&Ended>, said: &str) -> Failure {
    let ended = ended.map_or_else(
        || "did not start".to_owned(),
        |ended| match ended {
            Ended::Exited(code) => format!("ended with exit code {code}"),
            other => format!("failed: {other}"),
        },
    );
    let name = plan.argv.first().map_or("", String::as_str);
    Failure::new(format_args!("{name} {ended}{}", last_lines(said)))
}

/// What an error repeats of a guest's output.
pub(super) fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = lines
        .get(lines.len().saturating_sub(LAST_LINES)..)
        .unwrap_or_default();
    match last.is_empty() {
        true => String::new(),
        false => format!("; its last output: {}", cut(&last.join(" | "), LAST_BYTES)),
    }
}

/// What a guest changed, with the times of the build and without the places of its mounts.
fn tidied(
    diff: &Layer,
    image: &Image,
    targets: &[LayerPath],
    epoch: Time,
) -> Result<Layer, Failure> {
    let mut tidy = Tidy {
        image,
        targets,
        epoch,
        builder: LayerBuilder::new(),
        objects: HashMap::new(),
    };
    for entry in diff.entries() {
        tidy.take(&entry)?;
    }
    Ok(tidy.builder.finish()?)
}

struct Tidy<'a> {
    image: &'a Image,
    targets: &'a [LayerPath],
    epoch: Time,
    builder: LayerBuilder,
    /// Where a file with several names was put first.
    objects: HashMap<u32, LayerPath>,
}

impl Tidy<'_> {
    fn take(&mut self, entry: &LayerEntry<'_>) -> Result<(), Failure> {
        let path = &entry.path;
        match entry.body {
            // A place of a mount is made again by what else lies in it, if anything does.
            EntryBody::Dir { .. } if self.is_place(path) => {}
            EntryBody::File { content, .. } if self.is_place(path) && content.size() == 0 => {}
            EntryBody::Dir { meta, opaque } => self.dir(path, meta, opaque)?,
            EntryBody::File { object, .. } | EntryBody::Symlink { object, .. }
                if self.objects.contains_key(&object) =>
            {
                if let Some(first) = self.objects.get(&object) {
                    self.builder.hard_link(path, first)?;
                }
            }
            EntryBody::File {
                meta,
                content,
                object,
                ..
            } => {
                self.builder.file(path, self.timed(meta), content.clone())?;
                self.objects.insert(object, path.clone());
            }
            EntryBody::Symlink {
                meta,
                target,
                object,
                ..
            } => {
                self.builder.symlink(path, self.timed(meta), target)?;
                self.objects.insert(object, path.clone());
            }
            EntryBody::Whiteout => self.builder.whiteout(path)?,
            EntryBody::LowerLink { target } => self.builder.hard_link(path, target)?,
        }
        Ok(())
    }

    /// Takes a directory: one of which only the time has changed is as it was.
    fn dir(&mut self, path: &LayerPath, meta: Option<&Meta>, opaque: bool) -> Result<(), Failure> {
        let is_same = match (meta, self.image.locate(path)) {
            (Some(meta), Some(have)) => {
                have.stat.kind == Kind::Dir
                    && (have.stat.mode, have.stat.uid, have.stat.gid)
                        == (meta.mode, meta.uid, meta.gid)
            }
            _ => false,
        };
        if let Some(meta) = meta.filter(|_| (!is_same || opaque) && !path.is_root()) {
            self.builder.dir(path, self.timed(meta))?;
        }
        if opaque {
            self.builder.opaque(path)?;
        }
        Ok(())
    }

    /// Times that the guest's clock gave, and later ones, are that of the build.
    fn timed(&self, meta: &Meta) -> Meta {
        let nanos = meta.mtime.as_nanos_clamped();
        let start = VirtualClock::START_NANOS;
        let by_guest = (start..start + YEAR).contains(&nanos);
        match by_guest || meta.mtime > self.epoch {
            true => meta.clone().at(self.epoch),
            false => meta.clone(),
        }
    }

    /// Returns whether something is there only because a mount needs a place.
    fn is_place(&self, path: &LayerPath) -> bool {
        let mut targets = self.targets.iter();
        targets.any(|target| target.names().starts_with(path.names()))
            && self.image.locate(path).is_none()
    }
}
