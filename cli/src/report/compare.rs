//! Figures of several ways to do the same work, measured side by side.

use serde::Serialize;

use super::{Align, BaseFigures, Machine, Series, Summary, Table, bytes, count, nanos};

/// One interleaved run of several ways to give each guest its files.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub(crate) struct Comparison {
    /// The program's version, and that of the engine.
    pub(crate) versions: Versions,
    /// When the run began, in seconds since 1970-01-01 UTC.
    pub(crate) began_unix_s: u64,
    /// What it ran on.
    pub(crate) machine: Machine,
    /// The arguments that repeat it.
    pub(crate) command: Vec<String>,
    /// The guest's file.
    pub(crate) guest: String,
    /// Where the base came from.
    pub(crate) base_source: String,
    /// What the base holds.
    pub(crate) base: BaseFigures,
    /// Where copies and mounts lay, and on what.
    pub(crate) work_dir: String,
    /// How many instances each way was asked for.
    pub(crate) instances: u64,
    /// In how many turns they were made.
    pub(crate) turns: u64,
    /// The ways that were measured.
    pub(crate) ways: Vec<WayFigures>,
    /// Those that were not, and why.
    pub(crate) absent: Vec<Absent>,
    /// How costs grow with what there is, if that was asked for.
    pub(crate) growth: Vec<Series>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub(crate) struct Versions {
    /// This program's.
    pub(crate) stratafs: &'static str,
    /// The engine's line.
    pub(crate) wasmtime: &'static str,
}

impl Versions {
    /// The versions that this program was built from.
    #[must_use]
    pub(crate) fn here() -> Self {
        Self {
            stratafs: env!("CARGO_PKG_VERSION"),
            wasmtime: "48",
        }
    }
}

/// One way, and what it cost.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub(crate) struct WayFigures {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does for each instance, in a few words.
    pub(crate) what: &'static str,
    /// Whose files an instance works on.
    pub(crate) files: Files,
    /// Instances that ran.
    pub(crate) instances: u64,
    /// Those that did not exit with 0.
    pub(crate) failed: u64,
    /// What the first that failed said; empty if none did or it said nothing.
    pub(crate) complaint: String,
    /// Why it ran fewer instances than asked for, if it did.
    pub(crate) stopped: Option<String>,
    /// Once, for all instances.
    pub(crate) set_up_ns: u64,
    /// To give one instance its files.
    pub(crate) prepare_ns: Summary,
    /// To an instance's first instruction: its files, store, instantiation.
    pub(crate) start_ns: Summary,
    /// From there to its end, of those that exited with 0.
    pub(crate) run_ns: Summary,
    /// To take an instance's files away again.
    pub(crate) drop_ns: Summary,
    /// How it went on as instances were added, all of them kept.
    pub(crate) growth: Vec<Growth>,
    /// Every instance's start, in order.
    pub(crate) start_samples_ns: Vec<u64>,
}

/// Whose files an instance works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Files {
    /// Its own: no other instance sees what it writes.
    Private,
    /// Everybody's: each sees what the others write.
    Shared,
    /// Nobody's: it has none.
    None,
}

impl Files {
    /// As a table shows it.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Shared => "shared",
            Self::None => "none",
        }
    }
}

/// How things stood after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub(crate) struct Growth {
    /// Instances whose files are kept.
    pub(crate) instances: u64,
    /// The median start of the turn.
    pub(crate) start_ns: u64,
    /// By how much this process grew for them, `null` where the platform does
    /// not tell.
    pub(crate) memory_bytes: Option<u64>,
    /// What files made for them take, outside this process.
    pub(crate) files_bytes: u64,
}

impl Growth {
    /// Makes one.
    #[must_use]
    pub(crate) fn new(
        instances: u64,
        start_ns: u64,
        memory_bytes: Option<u64>,
        files_bytes: u64,
    ) -> Self {
        Self {
            instances,
            start_ns,
            memory_bytes,
            files_bytes,
        }
    }

    /// All that the instances hold.
    #[must_use]
    pub(crate) fn held_bytes(&self) -> u64 {
        self.memory_bytes
            .unwrap_or(0)
            .saturating_add(self.files_bytes)
    }
}

/// A way that could not be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub(crate) struct Absent {
    /// Its name.
    pub(crate) name: &'static str,
    /// Why not.
    pub(crate) why: String,
}

impl Absent {
    /// Makes one.
    #[must_use]
    pub(crate) fn new(name: &'static str, why: String) -> Self {
        Self { name, why }
    }
}

impl WayFigures {
    /// What an instance holds on average at the end.
    #[must_use]
    pub(crate) fn held_each(&self) -> u64 {
        self.growth.last().map_or(0, |last| {
            last.held_bytes().checked_div(last.instances).unwrap_or(0)
        })
    }
}

impl Comparison {
    /// Nothing measured yet, on this machine.
    #[must_use]
    pub(crate) fn here() -> Self {
        Self {
            versions: Versions::here(),
            began_unix_s: 0,
            machine: Machine::here(),
            command: Vec::new(),
            guest: String::new(),
            base_source: String::new(),
            base: BaseFigures::default(),
            work_dir: String::new(),
            instances: 0,
            turns: 0,
            ways: Vec::new(),
            absent: Vec::new(),
            growth: Vec::new(),
        }
    }

    /// The figures as a table for a terminal.
    #[must_use]
    pub(crate) fn table(&self) -> Table {
        let right = Align::Right;
        let mut table = Table::new(&[
            ("median per instance", Align::Left),
            ("files", Align::Left),
            ("made in", right),
            ("start", right),
            ("run", right),
            ("drop", right),
            ("held", right),
            ("ran", right),
            ("failed", right),
        ]);
        for way in &self.ways {
            let ran = way.instances > way.failed;
            let run = match ran {
                true => nanos(way.run_ns.median),
                false => "-".to_owned(),
            };
            table.row([
                way.name.to_owned(),
                way.files.word().to_owned(),
                nanos(way.prepare_ns.median),
                nanos(way.start_ns.median),
                run,
                nanos(way.drop_ns.median),
                bytes(way.held_each()),
                count(way.instances),
                count(way.failed),
            ]);
        }
        table
    }

    /// What a reader has to know beside the table: a line each.
    #[must_use]
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for way in &self.ways {
            if let Some(why) = &way.stopped {
                notes.push(format!(
                    "{}: {} of {} instances, {why}",
                    way.name,
                    count(way.instances),
                    count(self.instances)
                ));
            }
            if way.failed > 0 && !way.complaint.is_empty() {
                notes.push(format!("{}: an instance said: {}", way.name, way.complaint));
            }
        }
        let absent = self.absent.iter();
        notes.extend(absent.map(|way| format!("{}: not measured: {}", way.name, way.why)));
        notes
    }
}
