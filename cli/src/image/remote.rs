//! `image push`, `pull`, `copy`, `login`, `logout`, `ls-remote`.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use stratafs::image::Reference;
use stratafs::registry::{
    AuthFile, Client, Credential, Credentials, RegistryError, RegistryRef, VerifyKey,
};
use stratafs::source::{Compression, SourceOptions};
use stratafs::store::{AbsentStat, Store};
use stratafs::transfer::{self, CopyOptions, CopyPlace, PullOptions, Pulled, PushOptions, Pushed};

use super::args::{Compress, One};
use super::list::summary;
use super::remote_args::{
    CopyArgs, FillArgs, LoginArgs, LogoutArgs, LsRemoteArgs, PullArgs, PushArgs,
};
use super::text::answer;
use super::trace;
use crate::failure::Failure;
use crate::limits::MAX_PASSWORD_BYTES;
use crate::reach::{self, LazyWhen, ReachArgs, RemoteName};
use crate::report::bytes;
use crate::spans;
use crate::watch::TransferBar;

pub(super) fn pull(store: &Store, args: PullArgs) -> Result<(), Failure> {
    let source = SourceOptions {
        platform: args.platform,
        ..SourceOptions::default()
    };
    let lazy = args.lazy == LazyWhen::Only;
    let keys = args.verify.keys()?;
    let is_verified = !keys.is_empty();
    let named = (&args.name, args.tag.as_ref());
    let pulled = pull_named(store, &args.reach, named, (source, keys), lazy)?;
    let full = args.name.store_name();
    let tag = args.tag.as_ref().unwrap_or(&full);
    let json = || {
        let mut document = summary(&pulled.image);
        if let Some(document) = document.as_object_mut() {
            document.insert("tag".into(), json!(tag.as_str()));
            document.insert("name".into(), json!(args.name.to_string()));
            document.insert("manifest".into(), json!(pulled.digest.as_str()));
            document.insert("fetched_layers".into(), json!(pulled.fetched_layers));
            document.insert("fetched_bytes".into(), json!(pulled.fetched_bytes));
            document.insert("known_layers".into(), json!(pulled.known_layers));
            document.insert("lazy_layers".into(), json!(pulled.lazy_layers));
            document.insert("verified".into(), json!(is_verified));
        }
        document
    };
    answer(args.form, json, || {
        format!(
            "{tag} {}\n{} from {}: {} layers fetched ({}), {} known{}",
            pulled.image.id,
            pulled.digest,
            args.name,
            pulled.fetched_layers,
            bytes(pulled.fetched_bytes),
            pulled.known_layers,
            if is_verified {
                ", signature verified"
            } else {
                ""
            }
        ) + &in_part(pulled.lazy_layers, tag)
    })
}

/// Says of how many layers only the tables came.
fn in_part(layers: u64, tag: &Reference) -> String {
    match layers {
        0 => String::new(),
        layers => format!(
            "\n{layers} layers by their tables: the rest is fetched when it is read, or by \
             `stratafs store fill {tag}`"
        ),
    }
}

/// Fetches what is not here of an image.
pub(super) fn fill(store: &Store, args: FillArgs) -> Result<(), Failure> {
    let reference = &args.image.reference;
    let absent = fill_named(store, &args.reach, reference)?;
    let json = || {
        json!({
            "image": reference.as_str(),
            "fetched_chunks": absent.chunks,
            "fetched_bytes": absent.bytes,
            "fetched_blobs": absent.blobs,
        })
    };
    answer(args.form, json, || {
        format!(
            "{reference}: fetched {} of files and {} blobs that the store lacked",
            bytes(absent.bytes),
            absent.blobs
        )
    })
}

/// Fetches what is not here of an image, and shows how far that has come.
pub(crate) fn fill_named(
    store: &Store,
    reach: &ReachArgs,
    reference: &Reference,
) -> Result<AbsentStat, Failure> {
    let origins = reach.origins()?;
    let bar = TransferBar::start();
    let options = PullOptions {
        watcher: Some(bar.watcher()),
        ..PullOptions::default()
    };
    let filled = transfer::fill(store, origins, reference, &options);
    bar.end();
    Ok(filled?)
}

/// Pulls an image into the store, and shows how far that has come. With keys it has to be
/// signed with one of them.
pub(crate) fn pull_named(
    store: &Store,
    reach: &ReachArgs,
    (name, tag): (&RemoteName, Option<&Reference>),
    (source, verify_keys): (SourceOptions, Vec<VerifyKey>),
    lazy: bool,
) -> Result<Pulled, Failure> {
    let bar = TransferBar::start();
    let options = PullOptions {
        source,
        verify_keys,
        watcher: Some(bar.watcher()),
        lazy,
        ..PullOptions::default()
    };
    let pulled = match name {
        RemoteName::Registry(name) => {
            let client = reach.client()?;
            spans::of_pull(name, || transfer::pull(store, &client, name, tag, &options))
        }
        RemoteName::Object(name) => {
            let bucket = reach.bucket(name.home())?;
            transfer::pull_object(store, &bucket, name, tag, &options)
        }
    };
    bar.end();
    Ok(pulled?)
}

pub(super) fn push(store: &Store, args: PushArgs) -> Result<(), Failure> {
    let reference = &args.image.reference;
    let to = match &args.to {
        Some(to) => to.clone(),
        None => own_name(&args.image)?,
    };
    let image = store.image(reference.as_str())?;
    let start_set = trace::start_set_of(&image, args.start_set.as_deref())?;
    let bar = TransferBar::start();
    let options = PushOptions {
        compression: match args.compress {
            Compress::None => Compression::None,
            Compress::Gzip => Compression::Gzip,
            Compress::Zstd => Compression::Zstd,
        },
        start_set,
        set_platform: args.stamp.set_platform.clone(),
        artifact: args.artifact,
        packs: args.packs,
        since: args.since.clone(),
        watcher: Some(bar.watcher()),
        ..PushOptions::default()
    };
    let pushed = match &to {
        RemoteName::Registry(to) => {
            let client = args.reach.client()?;
            transfer::push(store, &client, reference, to, &options)
        }
        RemoteName::Object(to) => {
            let bucket = args.reach.bucket(to.home())?;
            transfer::push_object(store, &bucket, reference, to, &options)
        }
    };
    bar.end();
    let pushed = pushed?;
    let json = || {
        let mut document = sent(&pushed);
        if let Some(document) = document.as_object_mut() {
            document.insert("image".into(), json!(reference.as_str()));
            document.insert("name".into(), json!(to.to_string()));
            if args.packs {
                document.insert("new_packs".into(), json!(pushed.new_packs));
                document.insert("known_packs".into(), json!(pushed.known_packs));
            }
        }
        document
    };
    answer(args.form, json, || {
        let sent = say_sent(&to.to_string(), &pushed);
        match args.packs {
            false => sent,
            true => format!(
                "{sent}\n{} packs named again, {} new",
                pushed.known_packs, pushed.new_packs
            ),
        }
    })
}

/// Returns the name in a registry or an object store under which the store has an image.
fn own_name(image: &One) -> Result<RemoteName, Failure> {
    let text = image.reference.as_str();
    if !RemoteName::names(text) {
        return Err(Failure::usage(format_args!(
            "{text} names no registry: say where to, as in `stratafs image push {text} HOST/NAME:TAG`"
        )));
    }
    text.parse().map_err(Failure::usage)
}

fn sent(pushed: &Pushed) -> Value {
    json!({
        "manifest": pushed.digest.as_str(),
        "sent_blobs": pushed.sent_blobs,
        "sent_bytes": pushed.sent_bytes,
        "mounted_blobs": pushed.mounted_blobs,
        "known_blobs": pushed.known_blobs,
    })
}

fn say_sent(to: &str, pushed: &Pushed) -> String {
    format!(
        "{to} {}\n{} blobs sent ({}), {} mounted, {} known",
        pushed.digest,
        pushed.sent_blobs,
        bytes(pushed.sent_bytes),
        pushed.mounted_blobs,
        pushed.known_blobs
    )
}

pub(super) fn copy(args: CopyArgs) -> Result<(), Failure> {
    let (from, to) = (place(&args.from)?, place(&args.to)?);
    let client = args.reach.client()?;
    let bar = TransferBar::start();
    let options = CopyOptions {
        platform: args.platform,
        attached: !args.no_referrers,
        watcher: Some(bar.watcher()),
        ..CopyOptions::default()
    };
    let copied = transfer::copy(&client, &from, &to, &options);
    bar.end();
    let copied = copied?;
    let json = || {
        let mut document = sent(&copied);
        if let Some(document) = document.as_object_mut() {
            document.insert("from".into(), json!(args.from));
            document.insert("to".into(), json!(args.to));
            document.insert("attached".into(), json!(copied.attached));
        }
        document
    };
    answer(args.form, json, || {
        let sent = say_sent(&args.to, &copied);
        match copied.attached {
            0 => sent,
            some => format!("{sent}\n{some} signatures or other manifests about it went along"),
        }
    })
}

/// Reads what is copied from or to.
fn place(text: &str) -> Result<CopyPlace, Failure> {
    let named = text.strip_prefix("docker://");
    let path = text
        .strip_prefix("oci:")
        .or(text.strip_prefix("oci-archive:"));
    let is_path = text.starts_with(['/', '.']) || text == "-" || Path::new(text).exists();
    match (named, path) {
        (Some(name), _) => Ok(CopyPlace::Registry(name.parse().map_err(Failure::usage)?)),
        (None, Some(path)) => Ok(layout(path)),
        (None, None) if is_path => Ok(layout(text)),
        (None, None) => {
            // A path that is there up to the name of the image in it.
            let before = text.rsplit_once(':').map(|(path, _)| Path::new(path));
            if before.is_some_and(Path::exists) && !RegistryRef::names_registry(text) {
                return Ok(layout(text));
            }
            Ok(CopyPlace::Registry(text.parse().map_err(Failure::usage)?))
        }
    }
}

fn layout(text: &str) -> CopyPlace {
    match text.rsplit_once(':') {
        Some((path, name))
            if !Path::new(text).exists() && !name.contains('/') && !path.is_empty() =>
        {
            CopyPlace::Layout(
                path.into(),
                Some(name.to_owned()).filter(|name| !name.is_empty()),
            )
        }
        _ => CopyPlace::Layout(text.into(), None),
    }
}

pub(super) fn ls_remote(args: LsRemoteArgs) -> Result<(), Failure> {
    let client: Client = args.reach.client()?;
    let tags = client.tags(&args.name)?;
    let name = args.name.without_tag();
    answer(
        args.form,
        || json!({"name": name, "tags": tags}),
        || tags.join("\n"),
    )
}

/// What was typed, for one host.
struct TypedCredential(Credential);

impl Credentials for TypedCredential {
    fn find(&self, _: &str, _: &str) -> Result<Option<Credential>, RegistryError> {
        Ok(Some(self.0.clone()))
    }
}

pub(super) fn login(args: LoginArgs) -> Result<(), Failure> {
    let host = args.host.trim_end_matches('/');
    let user = match args.user {
        Some(user) => user,
        None => ask_user()?,
    };
    if user.is_empty() || user.contains(':') {
        return Err(Failure::usage(
            "a user's name has no colon and is not empty",
        ));
    }
    let password = match args.password_stdin {
        true => typed_password()?,
        false => ask_password()?,
    };
    if password.is_empty() {
        return Err(Failure::new("the password is empty: nothing is kept"));
    }
    let typed = TypedCredential(Credential::basic(&user, &password));
    args.reach.client_with(Arc::new(typed))?.check(host)?;
    let Some(file) = reach::auth_files().into_iter().next() else {
        let what = "there is no directory to save credentials in: set DOCKER_CONFIG to one";
        return Err(Failure::new(what));
    };
    file.store(host, &user, &password)?;
    let path = file.path().display().to_string();
    let json = || json!({"host": host, "user": user, "file": path});
    answer(args.form, json, || {
        format!("logged in at {host}, kept by {path}")
    })
}

/// Asks at the terminal; there has to be one.
fn ask_user() -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return Err(no_terminal("-u USER"));
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "user: ").and_then(|()| stderr.flush())?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

fn ask_password() -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return Err(no_terminal("--password-stdin"));
    }
    Ok(rpassword::prompt_password("password: ")?)
}

fn no_terminal(option: &str) -> Failure {
    Failure::usage(format_args!(
        "stdin is not a terminal, so nobody can be asked: give {option}"
    ))
}

/// Reads a password from stdin: all of it, but for the end of its line.
fn typed_password() -> Result<String, Failure> {
    let mut text = String::new();
    let mut bounded = io::stdin().lock().take(MAX_PASSWORD_BYTES + 1);
    let read = bounded.read_to_string(&mut text);
    read.map_err(|error| Failure::new(format_args!("stdin: {error}")))?;
    if text.len() as u64 > MAX_PASSWORD_BYTES {
        return Err(Failure::new(format_args!(
            "a password has at most {MAX_PASSWORD_BYTES} bytes"
        )));
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

pub(super) fn logout(args: LogoutArgs) -> Result<(), Failure> {
    let host = args.host.trim_end_matches('/');
    let mut forgotten = Vec::new();
    for file in reach::auth_files() {
        if AuthFile::erase(&file, host)? {
            forgotten.push(file.path().display().to_string());
        }
    }
    let json = || json!({"host": host, "files": forgotten});
    answer(args.form, json, || match forgotten.is_empty() {
        true => format!("not logged in at {host}"),
        false => format!("logged out at {host}: {}", forgotten.join(", ")),
    })
}
