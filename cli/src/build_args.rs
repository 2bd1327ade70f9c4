//! `image build` as typed.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use stratafs::image::Reference;
use stratafs::registry::RegistryRef;
use stratafs::source::Platform;

use super::parse::{self, Door, Variable};
use super::reach::{PullWhen, ReachArgs};

const BUILD_EXAMPLE: &str = "\
Examples:
  stratafs image build ./site --tag site:1
  stratafs image build -f Recipe --build-arg VERSION=2 --target test . --tag app:test
  stratafs image build --build-context assets=../assets --secret id=key,src=key.txt . --tag app:2
  stratafs image build --explain . --tag app:3
  stratafs image build --cache-from ghcr.io/team/app:cache --cache-to ghcr.io/team/app:cache . --tag app:4

A recipe is written in the syntax of a Dockerfile; RUN runs WebAssembly of the stage: RUN [\"/bin/tool.wasm\", \"--all\"].
docs/RECIPES.md has a tutorial and a table of every instruction. Times in the image are those of SOURCE_DATE_EPOCH,
or 0, so that equal recipes give equal images.

Exit codes:
  0   built
  1   a line cannot be built, or a RUN failed
  2   the arguments are wrong";

/// Builds an image by a recipe in the syntax of a Dockerfile, whose RUN runs WebAssembly.
///
/// Each step is a layer. It is kept, and used again as long as nothing that goes into it has
/// changed. Every line is read and every name is looked up before anything runs.
#[derive(Debug, Args)]
#[command(after_help = BUILD_EXAMPLE)]
pub(crate) struct BuildArgs {
    /// What COPY and ADD take files from: a directory or an archive; `-`: stdin, which has
    /// an archive, or a recipe that needs no files
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub(crate) context: PathBuf,

    /// The recipe; `-`: stdin [default: Dockerfile, Containerfile or Recipe in CONTEXT]
    #[arg(short = 'f', long, value_name = "RECIPE")]
    pub(crate) file: Option<PathBuf>,

    /// What to call the image; repeat for several names
    #[arg(short = 't', long = "tag", value_name = "REF", value_parser = parse::tag)]
    #[arg(required_unless_present_any = ["output", "iidfile"])]
    pub(crate) tags: Vec<Reference>,

    /// The stage to build, by name or number [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,

    /// Set an ARG of the recipe, NAME alone to the value that the host has
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", value_parser = parse::variable)]
    pub(crate) build_args: Vec<Variable>,

    /// What FROM, COPY --from and mounts mean by NAME: a directory, an archive, an OCI layout,
    /// or docker-image://REF
    #[arg(long = "build-context", value_name = "NAME=SRC", value_parser = named)]
    pub(crate) contexts: Vec<(String, String)>,

    /// Give RUN --mount=type=secret a file of the host, or the value of a variable
    #[arg(long = "secret", value_name = "id=NAME[,src=FILE|,env=VARIABLE]", value_parser = secret)]
    pub(crate) secrets: Vec<SecretFrom>,

    /// Add a label to the image
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = named)]
    pub(crate) labels: Vec<(String, String)>,

    /// Which image FROM takes of an index
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,

    /// What the image says that it is for
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) set_platform: Option<Platform>,

    /// Write the digest of the image into FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,

    /// Write the image as well: type=oci|oci-archive|tar|dir (Docker's `docker` and `local` are
    /// taken) and dest=PATH, or a PATH alone for its tree as a directory
    #[arg(short = 'o', long, value_name = "type=TYPE,dest=PATH", value_parser = output)]
    pub(crate) output: Vec<OutputTo>,

    /// How progress is shown on stderr: auto is tty on a terminal, else plain
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    pub(crate) progress: ProgressKind,

    /// Show no progress
    #[arg(short = 'q', long, conflicts_with = "progress")]
    pub(crate) quiet: bool,

    /// Build every step anew
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// Take steps that were built elsewhere: HOST/NAME:TAG, type=registry,ref=HOST/NAME:TAG or
    /// type=local,src=DIR; repeat for several. One that cannot be had is a warning
    #[arg(long, value_name = "WHERE", value_parser = cache_from)]
    pub(crate) cache_from: Vec<CachePlace>,

    /// Give all steps of this build to others: HOST/NAME:TAG, type=registry,ref=HOST/NAME:TAG
    /// or type=local,dest=DIR; repeat for several
    #[arg(long, value_name = "WHERE", value_parser = cache_to)]
    pub(crate) cache_to: Vec<CachePlace>,

    /// Say of each step why it was taken from the cache, or why not
    #[arg(long)]
    pub(crate) explain: bool,

    /// When a registry is asked for an image that is named after one [default: missing]
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "always")]
    pub(crate) pull: Option<PullWhen>,

    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    /// Let RUN connect to HOST; without this it has no network
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parse::door)]
    pub(crate) allow_net: Vec<Door>,

    /// Stop a RUN that takes longer
    #[arg(long, value_name = "SECONDS", value_parser = parse::seconds)]
    pub(crate) timeout: Option<std::time::Duration>,

    /// Stop a RUN whose memories and tables grow past N bytes (K, M, G)
    #[arg(long, value_name = "N", value_parser = parse::size)]
    pub(crate) max_memory: Option<u64>,

    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressKind {
    /// What suits stderr
    Auto,
    /// A line for each step and each line of output
    Plain,
    /// One line that changes
    Tty,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretFrom {
    pub(crate) id: String,
    pub(crate) file: Option<PathBuf>,
    pub(crate) variable: Option<String>,
}

/// Where an image is written as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputTo {
    pub(crate) format: stratafs::transfer::Format,
    pub(crate) dest: PathBuf,
}

/// Where a cache of builds is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CachePlace {
    Registry(RegistryRef),
    /// A directory with an OCI layout.
    Layout(PathBuf),
}

impl fmt::Display for CachePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(name) => name.fmt(f),
            Self::Layout(path) => f.write_str(&stratafs::name::show_path(path)),
        }
    }
}

fn cache_from(text: &str) -> Result<CachePlace, String> {
    cache_place(text, "src")
}

fn cache_to(text: &str) -> Result<CachePlace, String> {
    cache_place(text, "dest")
}

/// Reads where a cache is; `dir` is the key of a directory.
fn cache_place(text: &str, dir: &str) -> Result<CachePlace, String> {
    let registry = |name: &str| {
        let parsed = name.parse::<RegistryRef>();
        parsed
            .map(CachePlace::Registry)
            .map_err(|error| error.to_string())
    };
    if !text.contains('=') {
        return registry(text);
    }
    let expected = || {
        format!("expected HOST/NAME:TAG, type=registry,ref=HOST/NAME:TAG or type=local,{dir}=DIR")
    };
    let (mut kind, mut place) = (None, None);
    for word in text.split(',') {
        match word.split_once('=') {
            Some(("type", kind_of)) => kind = Some(kind_of),
            Some(("mode", "max")) if dir == "dest" => {}
            Some(("mode", "min")) if dir == "dest" => {
                return Err("mode=min: what a stage takes of another is part of its keys, so all steps are given: leave mode out".to_owned());
            }
            Some((key, value)) if (key == "ref" || key == dir) && !value.is_empty() => {
                place = Some((key, value));
            }
            _ => return Err(expected()),
        }
    }
    match (kind, place) {
        (Some("registry"), Some(("ref", name))) => registry(name),
        (Some("local"), Some((key, path))) if key == dir => Ok(CachePlace::Layout(path.into())),
        _ => Err(expected()),
    }
}

/// Reads `NAME=VALUE`.
fn named(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Reads `id=NAME,src=FILE` and its kin.
fn secret(text: &str) -> Result<SecretFrom, String> {
    let expected = || "expected id=NAME, with src=FILE or env=VARIABLE or neither".to_owned();
    let mut read = SecretFrom {
        id: String::new(),
        file: None,
        variable: None,
    };
    for word in text.split(',') {
        match word.split_once('=') {
            Some(("id", id)) if !id.is_empty() => read.id = id.to_owned(),
            Some(("src" | "source", file)) if !file.is_empty() => read.file = Some(file.into()),
            Some(("env", name)) if !name.is_empty() => read.variable = Some(name.to_owned()),
            Some(("type", "file" | "env")) => {}
            _ => return Err(expected()),
        }
    }
    match read.id.is_empty() || (read.file.is_some() && read.variable.is_some()) {
        true => Err(expected()),
        false => Ok(read),
    }
}

/// Reads `type=TYPE,dest=PATH`, or a path.
fn output(text: &str) -> Result<OutputTo, String> {
    use stratafs::transfer::Format;
    if !text.contains('=') {
        let format = match text {
            "-" => Format::Tar,
            _ => Format::Dir,
        };
        return Ok(OutputTo {
            format,
            dest: text.into(),
        });
    }
    let (mut format, mut dest) = (None, None);
    for word in text.split(',') {
        match word.split_once('=') {
            Some(("type", kind)) => format = Some(kind),
            Some(("dest", path)) if !path.is_empty() => dest = Some(PathBuf::from(path)),
            _ => return Err("expected type=TYPE,dest=PATH".to_owned()),
        }
    }
    let format = match format {
        Some("tar") => Format::Tar,
        Some("dir" | "local") => Format::Dir,
        Some("oci-archive" | "docker") => Format::OciArchive,
        Some("oci") => match dest.as_ref().and_then(|dest| dest.extension()) {
            Some(end) if end == "tar" => Format::OciArchive,
            _ => Format::Oci,
        },
        _ => return Err("the type is one of oci, oci-archive, tar and dir".to_owned()),
    };
    let dest = dest.ok_or("where to is missing: write dest=PATH")?;
    Ok(OutputTo { format, dest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_languages_are_read() {
        assert_eq!(named("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(named("a").is_err() && named("=b").is_err());
        let key = secret("id=k,src=/f").unwrap();
        assert_eq!((key.id.as_str(), key.file), ("k", Some("/f".into())));
        assert!(secret("src=/f").is_err() && secret("id=k,src=a,env=B").is_err());
        let out = |text| output(text).map(|out| (out.format, out.dest));
        use stratafs::transfer::Format;
        assert_eq!(out("x"), Ok((Format::Dir, "x".into())));
        assert_eq!(out("-"), Ok((Format::Tar, "-".into())));
        assert_eq!(
            out("type=oci,dest=a.tar"),
            Ok((Format::OciArchive, "a.tar".into()))
        );
        assert_eq!(out("type=oci,dest=a"), Ok((Format::Oci, "a".into())));
        for bad in ["type=x,dest=a", "type=tar", "dest=a", "type=tar,dest="] {
            assert!(out(bad).is_err(), "{bad}");
        }
        let registry = CachePlace::Registry("host:5000/a:b".parse().unwrap());
        for fine in ["host:5000/a:b", "type=registry,ref=host:5000/a:b"] {
            assert_eq!(cache_from(fine), Ok(registry.clone()));
            assert_eq!(cache_to(fine), Ok(registry.clone()));
        }
        let layout = Ok(CachePlace::Layout("d".into()));
        assert_eq!(cache_from("type=local,src=d"), layout);
        assert_eq!(cache_to("type=local,mode=max,dest=d"), layout);
        for bad in [
            "type=gha",
            "type=local,src=d",
            "type=registry",
            "mode=min",
            "A/b",
            "",
        ] {
            assert!(cache_to(bad).is_err(), "{bad}");
        }
    }
}
