//! `image lint`.

mod findings;
mod lines;
pub(crate) mod rules;
mod sarif;
mod secrets;
mod subject;
mod tree;

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use stratafs::image::{Image, Reference};
use stratafs::runner::{Guest, Runner, RunnerConfig, RunnerError};
use stratafs::store::{ImageInfo, Store};
use stratafs::transfer;
use stratafs::vfs::Fs;

use findings::{Finding, Findings, count};
use rules::{
    ENTRY_MISSING, ENTRY_NOT_WASM, LATEST, NO_ENTRY, SECRET, SHARED_RANDOM, Severity,
    UNKNOWN_IMPORT, UNPINNED_BASE,
};
use subject::Subject;

use super::look_args::LintArgs;
use super::text::{answer, put_bytes, rooted, rooted_bytes};
use crate::checkpoint;
use crate::failure::{Failure, print_json};
use crate::from_image;
use crate::limits::MAX_PROGRAM_BYTES;
use crate::outfile::OutFile;
use crate::report::times;

/// There are findings that count.
const FINDINGS_CODE: u8 = 4;

pub(super) fn lint(args: LintArgs, store: Option<&Path>) -> Result<ExitCode, Failure> {
    let subject = Subject::find(&args.subject, store)?;
    let is_stdout = args
        .sarif
        .as_deref()
        .is_some_and(|path| path.as_os_str() == "-");
    let sarif = args.sarif.as_deref().filter(|_| !is_stdout);
    let sarif = sarif.map(OutFile::create).transpose()?;
    let allowed = args.allow.iter().map(|name| name.0).collect();
    let mut findings = Findings::new(allowed);
    match &subject {
        Subject::Image(store, reference) => of_image(store, reference, &mut findings)?,
        Subject::Recipe(recipe) => {
            lines::look(&recipe.text, recipe.has_ignore_file, &mut findings);
        }
    }
    let found = findings.finish();
    if let Some(file) = sarif {
        let document = sarif::document(&subject, &found);
        file.write(|out| Ok(writeln!(out, "{document:#}")?))?;
    }
    let is_bad = found
        .iter()
        .any(|finding| finding.rule.severity >= args.fail_on);
    match is_stdout {
        true => print_json(&sarif::document(&subject, &found))?,
        false => answer(
            args.form,
            || document(&subject, &found, is_bad),
            || lines(&found),
        )?,
    }
    Ok(match is_bad {
        true => ExitCode::from(FINDINGS_CODE),
        false => ExitCode::SUCCESS,
    })
}

fn of_image(store: &Store, reference: &Reference, findings: &mut Findings) -> Result<(), Failure> {
    let info = store.info(reference.as_str())?;
    let image = store.image(reference.as_str())?;
    if reference.as_str().ends_with(":latest") {
        findings.of_image(&LATEST, reference.to_string());
    }
    config(&info, findings);
    entry(store, &info, &image, findings)?;
    tree::merged(&transfer::analyze(store, reference)?, findings);
    tree::layers(&store.layers(reference.as_str())?, findings)
}

/// Looks at what the configuration says.
fn config(info: &ImageInfo, findings: &mut Findings) {
    for variable in &info.config.env {
        if secrets::is_secret_variable(variable) {
            let name = variable.split('=').next().unwrap_or_default();
            findings.of_image(&SECRET, format!("the variable {name:?} has a value"));
        }
    }
    let label = |name: &str| {
        let label = info
            .config
            .labels
            .get(&format!("org.opencontainers.image.base.{name}"));
        label.filter(|label| !label.is_empty())
    };
    if let (Some(base), None) = (label("name"), label("digest"))
        && !base.contains('@')
    {
        findings.of_image(&UNPINNED_BASE, format!("the base {base:?}"));
    }
}

/// Looks at the program that the image starts.
fn entry(
    store: &Store,
    info: &ImageInfo,
    image: &Image,
    findings: &mut Findings,
) -> Result<(), Failure> {
    // What a prepared image starts is its checkpoint.
    if let Some(checkpoint) = checkpoint::inspect(image, &info.id)? {
        let calls = checkpoint.random_calls;
        if calls > 0 {
            findings.of_image(&SHARED_RANDOM, format!("it asked {}", times(calls)));
        }
        return Ok(());
    }
    let (name, bytes) = match transfer::program(store, info)? {
        Some(program) => ("the program".to_owned(), program),
        None => {
            let words = info.config.entrypoint.iter().chain(&info.config.cmd);
            let Some(program) = words.flatten().next() else {
                findings.of_image(&NO_ENTRY, "neither an entry point nor arguments");
                return Ok(());
            };
            let Some(path) = from_image::program_path(image, &info.config) else {
                findings.of_image(&ENTRY_MISSING, format!("{program:?}"));
                return Ok(());
            };
            let bytes = Fs::new(image).read_up_to(&path, MAX_PROGRAM_BYTES)?;
            (path, bytes)
        }
    };
    let what = from_image::foreign(&bytes);
    let guest = Guest::from_bytes(&*name, bytes);
    match guest.and_then(|guest| Runner::new(&guest, RunnerConfig::default())) {
        Ok(_) => {}
        Err(RunnerError::NotWasm { reason, .. }) => {
            let reason = match what {
                Some(what) => format!("{name} is {what}"),
                None => format!("{name}: {reason}"),
            };
            findings.of_image(&ENTRY_NOT_WASM, reason);
        }
        Err(error) => findings.of_image(&UNKNOWN_IMPORT, error.to_string()),
    }
    Ok(())
}

fn document(subject: &Subject, found: &[Finding], is_bad: bool) -> Value {
    let findings: Vec<Value> = found.iter().map(finding_json).collect();
    json!({
        "image": subject.image(),
        "recipe": subject.recipe(),
        "errors": count(found, Severity::Error),
        "warnings": count(found, Severity::Warning),
        "notes": count(found, Severity::Note),
        "failed": is_bad,
        "findings": findings,
    })
}

fn finding_json(finding: &Finding) -> Value {
    let mut value = json!({
        "rule": finding.rule.id,
        "severity": finding.rule.severity.word(),
        "path": null,
        "layer": finding.layer,
        "line": finding.at.map(|at| at.line),
        "column": finding.at.map(|at| at.column),
        "reason": finding.reason,
        "about": finding.rule.about,
        "fix": finding.rule.fix,
    });
    if let Some(path) = &finding.path {
        put_bytes(&mut value, "path", &rooted_bytes(path));
    }
    value
}

/// A line for each finding, and after those of a rule what to do.
fn lines(found: &[Finding]) -> String {
    let mut out = String::new();
    for same in found.chunk_by(|one, other| one.rule.id == other.rule.id) {
        let Some(first) = same.first() else { continue };
        let rule = first.rule;
        out.push_str(&format!(
            "{} {}: {}\n",
            rule.severity.word(),
            rule.id,
            rule.about
        ));
        for finding in same {
            let path = finding
                .path
                .as_ref()
                .map(|path| format!("{}: ", rooted(path)));
            let layer = finding.layer.map(|layer| format!(" (layer {layer})"));
            let at = finding.at.map(|at| format!("{at}: "));
            out.push_str(&format!(
                "  {}{}{}{}\n",
                at.unwrap_or_default(),
                path.unwrap_or_default(),
                finding.reason.replace(['\n', '\t'], " "),
                layer.unwrap_or_default()
            ));
        }
        out.push_str(&format!("  fix: {}\n", rule.fix));
    }
    out.push_str(&format!(
        "{} errors, {} warnings, {} notes",
        count(found, Severity::Error),
        count(found, Severity::Warning),
        count(found, Severity::Note)
    ));
    out
}
