//! `--strace` and `--strace-counts`: what guests ask of their files.

mod counts;
mod lines;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};
use stratafs::runner::{CallResult, CallValue, Excerpt, FileCall, WatchCalls};

use counts::Counts;
use lines::LineWriter;

use crate::failure::{Failure, json_text, print_own, put_bytes};
use crate::outfile::OutFile;

/// What to tell of calls, and where.
#[derive(Debug, Default, Args)]
pub(super) struct StraceArgs {
    /// Write each file call of the guest, with arguments, result and error, into FILE
    /// as it is made (`-`: stdout): a line for each as strace's, or JSON lines if FILE
    /// ends in `.jsonl`. With --instances each line names its instance
    #[arg(long, value_name = "FILE")]
    strace: Option<PathBuf>,

    /// Write --strace and --strace-counts as JSON lines, whatever FILE is called
    #[arg(long)]
    strace_json: bool,

    /// After the run, write a table of the file calls of all instances into FILE
    /// (`-`: stdout): how many of each, errors, bytes, time; JSON lines if FILE ends in
    /// `.jsonl`
    #[arg(long, value_name = "FILE")]
    strace_counts: Option<PathBuf>,
}

impl StraceArgs {
    /// Returns whether any of it was typed.
    pub(super) fn is_given(&self) -> bool {
        self.strace.is_some() || self.strace_json || self.strace_counts.is_some()
    }
}

/// Reports calls while a run goes on.
pub(super) struct Strace {
    calls: Arc<Calls>,
    counts: Option<CountsOutput>,
}

/// Where the counts go, opened before the run.
struct CountsOutput {
    file: Option<OutFile>,
    is_json: bool,
}

/// What the threads that run guests tell of their calls.
#[derive(Debug)]
struct Calls {
    lines: Option<LineWriter>,
    is_json: bool,
    /// Whether a line of text names the instance.
    names_instance: bool,
    counts: Option<Counts>,
}

impl Strace {
    /// Opens the files, if any are wanted.
    pub(super) fn open(args: &StraceArgs, names_instance: bool) -> Result<Option<Self>, Failure> {
        let StraceArgs {
            strace,
            strace_json,
            strace_counts,
        } = args;
        if strace.is_none() && strace_counts.is_none() {
            return match strace_json {
                true => Err(Failure::usage(
                    "--strace-json: it says how --strace FILE and --strace-counts FILE are \
                     written, and neither is given",
                )),
                false => Ok(None),
            };
        }
        let is_json = |path: &Path| {
            *strace_json
                || path
                    .extension()
                    .is_some_and(|end| end.eq_ignore_ascii_case("jsonl"))
        };
        let counts = match strace_counts {
            None => None,
            Some(path) => Some(CountsOutput {
                file: match path.as_os_str() == "-" {
                    true => None,
                    false => Some(OutFile::create(path)?),
                },
                is_json: is_json(path),
            }),
        };
        let calls = Calls {
            lines: strace.as_deref().map(LineWriter::open).transpose()?,
            is_json: strace.as_deref().is_some_and(is_json),
            names_instance,
            counts: counts.is_some().then(Counts::default),
        };
        Ok(Some(Self {
            calls: Arc::new(calls),
            counts,
        }))
    }

    pub(super) fn watch(&self) -> Arc<dyn WatchCalls> {
        Arc::clone(&self.calls) as Arc<dyn WatchCalls>
    }

    /// Writes what is left, and says if something is missing.
    pub(super) fn end(self) -> Result<(), Failure> {
        let lines = self.calls.lines.as_ref().map_or(Ok(()), LineWriter::end);
        if let (Some(sink), Some(counts)) = (self.counts, &self.calls.counts) {
            let text = match sink.is_json {
                true => counts.json(),
                false => counts.table(),
            };
            match sink.file {
                None => print_own(text.as_bytes())?,
                Some(file) => file.write(|out| Ok(out.write_all(text.as_bytes())?))?,
            }
        }
        lines
    }
}

impl WatchCalls for Calls {
    fn called(&self, call: &FileCall) {
        if let Some(counts) = &self.counts {
            counts.add(call);
        }
        let Some(lines) = &self.lines else { return };
        let mut line = match (self.is_json, self.names_instance) {
            (true, _) => json_text(json(call).to_string()),
            (false, true) => format!("[instance {}] {call}", call.instance),
            (false, false) => call.to_string(),
        };
        line.push('\n');
        lines.push(&line);
    }
}

/// A call as a document. docs/JSON.md has the meaning of each key.
fn json(call: &FileCall) -> Value {
    let mut args = json!({});
    for arg in &call.args {
        put(&mut args, arg.name, &arg.value);
    }
    let mut document = json!({
        "instance": call.instance,
        "wasi": call.version.as_str(),
        "call": call.name,
        "args": args,
        "elapsed_ns": u64::try_from(call.elapsed.as_nanos()).unwrap_or(u64::MAX),
    });
    if let Some(bytes) = call.bytes {
        put(&mut document, "bytes", &CallValue::Number(bytes));
    }
    match &call.result {
        CallResult::Done(value) => {
            put(
                &mut document,
                "outcome",
                &CallValue::Word("done".to_owned()),
            );
            put(&mut document, "result", value);
        }
        CallResult::Failed { errno, message } => {
            put(
                &mut document,
                "outcome",
                &CallValue::Word("failed".to_owned()),
            );
            put(
                &mut document,
                "errno",
                &CallValue::Word((*errno).to_owned()),
            );
            put(
                &mut document,
                "message",
                &CallValue::Word((*message).to_owned()),
            );
        }
        CallResult::Trapped(why) => {
            put(
                &mut document,
                "outcome",
                &CallValue::Word("trapped".to_owned()),
            );
            put_bytes(&mut document, "message", why.as_bytes());
        }
        _ => put(
            &mut document,
            "outcome",
            &CallValue::Word("unfinished".to_owned()),
        ),
    }
    document
}

/// Puts a value under a key; a name of a descriptor, the bytes of what is no UTF-8,
/// and the length of what is cut go under keys beside it.
fn put(document: &mut Value, key: &str, value: &CallValue) {
    let beside = |end: &str| format!("{key}_{end}");
    match value {
        CallValue::Path(cut) | CallValue::Bytes(cut) => {
            put_bytes(document, key, &cut.bytes);
            if cut.is_cut() {
                put(document, &beside("len"), &CallValue::Number(cut.len));
            }
        }
        CallValue::Descriptor(number, name) => {
            put(document, key, &CallValue::Number((*number).into()));
            if let Some(name) = name {
                put_bytes(document, &beside("name"), name.as_bytes());
            }
        }
        value => {
            if let Some(map) = document.as_object_mut() {
                map.insert(key.to_owned(), plain(value));
            }
        }
    }
}

fn plain(value: &CallValue) -> Value {
    let text = |cut: &Excerpt| json!(String::from_utf8_lossy(&cut.bytes));
    match value {
        CallValue::Number(number) => json!(number),
        CallValue::Signed(number) => json!(number),
        CallValue::Word(word) => json!(word),
        CallValue::Names(names) => names.iter().map(text).collect(),
        CallValue::Record(fields) => {
            let mut record = Value::Object(Map::new());
            for (name, value) in fields {
                put(&mut record, name, value);
            }
            record
        }
        _ => Value::Null,
    }
}
