//! The guest that an image brings, and how it is to be started.

use std::path::{Path, PathBuf};

use stratafs::image::{Image, ImageConfig, Reference};
use stratafs::runner::{Guest, RunPlan, RunnerError};
use stratafs::vfs::Fs;

use super::failure::Failure;
use super::limits::MAX_PROGRAM_BYTES;

/// Where a program without a slash in its name is looked for, if the image
/// has no `PATH`.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What was typed beside an image.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Arguments; they take the place of the image's.
    pub(super) typed: Vec<String>,
    /// The directory to start in, in place of the image's.
    pub(super) workdir: Option<String>,
    /// What to run in place of the image's entry point and arguments.
    pub(super) entrypoint: Option<String>,
    /// A guest of the host to run in place of the image's.
    pub(super) over: Option<PathBuf>,
}

impl Wanted {
    /// Returns the configuration with what was typed in its place.
    fn applied(&self, config: &ImageConfig) -> ImageConfig {
        let mut config = config.clone();
        if let Some(dir) = &self.workdir {
            config.working_dir = Some(dir.clone());
        }
        if let Some(program) = &self.entrypoint {
            // Empty, as with Docker: none.
            config.entrypoint = (!program.is_empty()).then(|| vec![program.clone()]);
            config.cmd = None;
        }
        config
    }
}

/// Fills in what the image's configuration says, and reads the program out of
/// the image, unless it is an artifact with a program of its own. Words that were typed take the place of the image's arguments;
/// variables that were typed win over the image's. Where the image has no entry point,
/// lacks the program that was typed, and that is a guest of the host, it is run.
pub(super) fn guest(
    reference: &Reference,
    (image, config): (&Image, &ImageConfig),
    (artifact, wanted): (Option<Vec<u8>>, &Wanted),
    plan: &mut RunPlan,
) -> Result<Guest, Failure> {
    let config = &wanted.applied(config);
    let typed = wanted.typed.clone();
    if let Some(file) = &wanted.over {
        let guest = Guest::in_file(file)?;
        set_out(config, file, typed, plan);
        return Ok(guest);
    }
    let mut words = config.entrypoint.clone().unwrap_or_default();
    match typed.is_empty() {
        true => words.extend(config.cmd.clone().unwrap_or_default()),
        false => words.extend(typed),
    }
    if let Some(bytes) = artifact {
        if let Some(program) = &wanted.entrypoint {
            return Err(Failure::new(format_args!(
                "{reference}: the image is one program and has no {program:?} to choose: leave \
                 --entrypoint out"
            )));
        }
        // The program is not a file of the image; where it has no name, it has the image's.
        if config.entrypoint.is_none() {
            words.insert(0, reference.as_str().to_owned());
        }
        plan.env = environment(config, std::mem::take(&mut plan.env));
        plan.working_dir.clone_from(&config.working_dir);
        plan.args = words;
        return Ok(Guest::from_bytes(reference.to_string(), bytes)?);
    }
    let Some(program) = words.first().cloned().filter(|word| !word.is_empty()) else {
        return Err(Failure::new(format_args!(
            "{reference}: the image has no entry point: say what to run in it"
        )));
    };
    plan.env = environment(config, std::mem::take(&mut plan.env));
    plan.working_dir.clone_from(&config.working_dir);
    plan.args = words;
    let fs = Fs::new(image);
    let found = candidates(&program, plan).into_iter().find(|path| {
        fs.metadata(path)
            .is_ok_and(|stat| stat.kind == stratafs::meta::Kind::File)
    });
    let Some(path) = found else {
        let may_be_hosts = config.entrypoint.is_none() && !wanted.typed.is_empty();
        return match may_be_hosts {
            true => of_host(reference, config, &wanted.typed, plan),
            false => Err(no_file(reference, &program, "")),
        };
    };
    let size = fs.metadata(&path)?.size;
    if size > MAX_PROGRAM_BYTES {
        return Err(Failure::new(format_args!(
            "{reference}: {path} has {size} bytes: a program has at most {MAX_PROGRAM_BYTES}"
        )));
    }
    Ok(Guest::in_image(
        format!("{reference}:{path}"),
        image,
        &path,
    )?)
}

/// Finds the program that an image starts by itself, if that is a file of it.
pub(super) fn program_path(image: &Image, config: &ImageConfig) -> Option<String> {
    let words = config.entrypoint.iter().chain(&config.cmd).flatten();
    let program = words.map(String::as_str).next()?;
    let mut plan = RunPlan::default();
    plan.env = environment(config, Vec::new());
    plan.working_dir.clone_from(&config.working_dir);
    let fs = Fs::new(image);
    candidates(program, &plan).into_iter().find(|path| {
        fs.metadata(path)
            .is_ok_and(|stat| stat.kind == stratafs::meta::Kind::File)
    })
}

/// Returns what bytes are that are not WebAssembly, if they are a program of another kind.
pub(super) fn foreign(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x7f, b'E', b'L', b'F', ..] => Some("an ELF program for Linux"),
        [b'M', b'Z', ..] => Some("a program for Windows"),
        [0xfe, 0xed, 0xfa, ..] | [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] => Some("a program for macOS"),
        [b'#', b'!', ..] => Some("a script"),
        _ => None,
    }
}

fn no_file(reference: &Reference, program: &str, more: &str) -> Failure {
    Failure::new(format_args!(
        "{reference}: the program {program:?} is not a file of the image{more}"
    ))
}

/// Takes the first word as a file of the host, if it is WebAssembly.
fn of_host(
    reference: &Reference,
    config: &ImageConfig,
    typed: &[String],
    plan: &mut RunPlan,
) -> Result<Guest, Failure> {
    let Some((program, args)) = typed.split_first() else {
        return Err(no_file(reference, "", ""));
    };
    let file = Path::new(program);
    if !file.is_file() {
        return Err(no_file(reference, program, ", nor of the host"));
    }
    let guest = match Guest::in_file(file) {
        Err(RunnerError::NotWasm { reason, .. }) => {
            let more = format!(", and that of the host is not WebAssembly: {reason}");
            return Err(no_file(reference, program, &more));
        }
        guest => guest?,
    };
    let dropped = usize::from(args.first().is_some_and(|word| word == "--"));
    let args = args.iter().skip(dropped).cloned().collect();
    set_out(config, file, args, plan);
    Ok(guest)
}

/// Starts a guest of the host in the image's environment.
fn set_out(config: &ImageConfig, file: &Path, args: Vec<String>, plan: &mut RunPlan) {
    let name = file.file_name().unwrap_or(file.as_os_str());
    plan.env = environment(config, std::mem::take(&mut plan.env));
    plan.working_dir.clone_from(&config.working_dir);
    plan.args = vec![name.to_string_lossy().into_owned()];
    plan.args.extend(args);
}

/// The image's variables, then those that were typed, each name once; `PWD`
/// says where the program should think it is.
fn environment(config: &ImageConfig, typed: Vec<(String, String)>) -> Vec<(String, String)> {
    let own = config.env.iter().filter_map(|both| {
        let (name, value) = both.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let dir = config.working_dir.iter();
    let dir = dir.map(|dir| ("PWD".to_owned(), dir.clone()));
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in dir.chain(own).chain(typed) {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => all.push((name, value)),
        }
    }
    all
}

/// Where a program may lie, as a shell would look for it: with a slash from
/// the working directory on, without one along `PATH` and in the working
/// directory.
pub(super) fn candidates(program: &str, plan: &RunPlan) -> Vec<String> {
    let dir = plan.working_dir.as_deref().unwrap_or("/");
    let below = |dir: &str| match dir.trim_matches('/') {
        "" => format!("/{program}"),
        dir => format!("/{dir}/{program}"),
    };
    if program.starts_with('/') {
        return vec![program.to_owned()];
    }
    if program.contains('/') {
        return vec![below(dir)];
    }
    let path = plan.env.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or(USUAL_PATH, |(_, path)| path);
    let dirs = path.split(':').filter(|dir| dir.starts_with('/'));
    dirs.chain([dir]).map(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(dir: Option<&str>, path: Option<&str>) -> RunPlan {
        let path = path.map(|path| ("PATH".to_owned(), path.to_owned()));
        let mut plan = RunPlan::default();
        plan.working_dir = dir.map(str::to_owned);
        plan.env = path.into_iter().collect();
        plan
    }

    #[test]
    fn programs_are_looked_for_as_a_shell_does() {
        let plain = plan(Some("/srv/"), Some("/a:rel:/b/"));
        assert_eq!(candidates("/x.wasm", &plain), ["/x.wasm"]);
        assert_eq!(candidates("./x.wasm", &plain), ["/srv/./x.wasm"]);
        assert_eq!(candidates("x", &plain), ["/a/x", "/b/x", "/srv/x"]);
        let none = candidates("x", &plan(None, None));
        assert_eq!(none.last().map(String::as_str), Some("/x"));
        assert!(none.contains(&"/usr/bin/x".to_owned()));
    }

    #[test]
    fn typed_variables_win() {
        let mut config = ImageConfig::new();
        config.env = vec!["A=1".into(), "B=2=3".into(), "odd".into()];
        config.working_dir = Some("/w".into());
        let typed = vec![("A".to_owned(), "9".to_owned())];
        let all = environment(&config, typed);
        let shown: Vec<_> = all
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(shown, ["PWD=/w", "A=9", "B=2=3"]);
    }
}
