//! Every bound of the command line, with its unit and the reason for its value.
//! Those of the library are in `stratafs::limits`.

/// Bytes in a program that is read out of an image. CPython has 30 MB.
pub(crate) const MAX_PROGRAM_BYTES: u64 = 256 * 1024 * 1024;

/// Bytes of a file that `image cat --json` puts into its document.
pub(crate) const MAX_JSON_CONTENT_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes in one line that the command line prints for a person, escaped.
pub(crate) const MAX_LINE_BYTES: usize = 4096;

/// Bytes in one cell of a table that the command line prints.
pub(crate) const MAX_CELL_BYTES: usize = 512;

/// Bytes in a password that is read from stdin. Tokens have a few thousand.
pub(crate) const MAX_PASSWORD_BYTES: u64 = 64 * 1024;
/// Bytes of lines of `--strace` that wait for a file or pipe that takes none: some ten
/// thousand calls.
pub(crate) const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of files that `image analyze` compresses to see how well they do: about a second.
pub(crate) const MAX_SAMPLE_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes of the page that `image analyze --html` writes: 100,000 files with names of usual
/// length, and little enough to be sent by mail.
pub(crate) const MAX_PAGE_BYTES: usize = 4_800_000;

/// Bytes in one line of a trace that is read. What `run --trace` writes of a file has fewer.
pub(crate) const MAX_TRACE_LINE_BYTES: u64 = 8 * 1024 * 1024;

/// Paths in all traces that one command reads.
pub(crate) const MAX_TRACED_PATHS: usize = 4_000_000;

/// Requests that `serve` may be told to answer at a time: what a pool has room for.
pub(crate) const MAX_IN_FLIGHT: u32 = 1024;

/// Sessions that `serve` may be told to keep: a cookie for each of a million clients.
pub(crate) const MAX_SESSIONS: u32 = 1_000_000;

/// Connections that `serve` has open at a time. Past it the one that has waited longest
/// for a request is closed.
pub(crate) const MAX_CONNECTIONS: usize = 1024;

/// Bytes in the head of a request: line and headers. Servers have 8 to 64 KiB.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Bytes of a body that `serve` takes before it starts a guest, so that no guest waits
/// for the client of a small one.
pub(crate) const MAX_EARLY_BODY_BYTES: usize = 64 * 1024;

/// Bytes of an answer that are waited for before its head is sent, so that a short one is
/// one piece; they come at once or are not waited for.
pub(crate) const MAX_EARLY_ANSWER_BYTES: usize = 16 * 1024;

/// Requests of one connection of HTTP/2 at a time.
pub(crate) const MAX_STREAMS: u32 = 64;

/// Bytes of one piece of an answer; a guest is at most two pieces ahead of its client.
pub(crate) const MAX_PIECE_BYTES: usize = 256 * 1024;

/// Bytes of lines that `serve` holds for a log that takes none; further ones are counted
/// and left out.
pub(crate) const MAX_LOG_BYTES: usize = 4 * 1024 * 1024;
/// Bytes in a pattern of paths.
pub(crate) const MAX_GLOB_BYTES: usize = 4096;

/// Paths that a guest missed in a trial run and that are kept to be counted.
pub(crate) const MAX_MISSED_PATHS: usize = 1000;
/// Bytes in a recipe. The largest that were seen have some 50 KB.
pub(crate) const MAX_RECIPE_BYTES: usize = 1024 * 1024;

/// Instructions in a recipe: each may be a layer, of which an image has 4096 at most.
pub(crate) const MAX_INSTRUCTIONS: usize = 10_000;

/// Stages in a recipe.
pub(crate) const MAX_STAGES: usize = 1000;

/// Bytes in a word of a recipe once its variables are replaced: what a guest's environment
/// could just hold.
pub(crate) const MAX_EXPANDED_BYTES: usize = 1024 * 1024;

/// Variables within variables within a word of a recipe.
pub(crate) const MAX_EXPANSION_DEPTH: usize = 64;

/// Steps that the patterns of one word's variables may take: well below a second.
pub(crate) const MAX_EXPANSION_STEPS: u64 = 10_000_000;

/// Bytes in a pattern for paths, as long as a path can be.
pub(crate) const MAX_WILDCARD_BYTES: usize = 4096;

/// Patterns in a `.dockerignore`: each is asked of each name of the context.
pub(crate) const MAX_IGNORE_PATTERNS: usize = 10_000;

/// Bytes in the environment that a recipe sets: what a guest can be given, arguments included.
pub(crate) const MAX_ENVIRONMENT_BYTES: usize = 1024 * 1024;

/// Bytes in a secret that a build gives to a guest. Keys and tokens have a few thousand.
pub(crate) const MAX_SECRET_BYTES: u64 = 1024 * 1024;

/// Bytes of a guest's output that a build keeps and shows: the last ones.
pub(crate) const MAX_RUN_OUTPUT_BYTES: usize = 1024 * 1024;

/// Bytes that the plan of a build may hold: all words with their variables replaced, and what
/// each stage and each guest is given of the environment.
pub(crate) const MAX_PLANNED_BYTES: usize = 64 * 1024 * 1024;

/// Seconds after which a run begins to fetch what is not here of its image: what the guest reads to
/// start comes first, and for a short run nothing else does.
pub(crate) const FILL_AFTER_SECONDS: u64 = 2;

/// Bytes of the label in which a cache of builds lists its steps: 100 for each step that a
/// recipe may have, twice over.
pub(crate) const MAX_CACHE_LABEL_BYTES: usize = 2 * 1024 * 1024;

/// Findings of one rule that `image lint` lists.
pub(crate) const MAX_FINDINGS: u64 = 100;

/// Bytes of one file that are looked through for secrets.
pub(crate) const MAX_SCANNED_FILE_BYTES: u64 = 1024 * 1024;

/// Bytes of all files that are looked through for secrets: some seconds.
pub(crate) const MAX_SCANNED_BYTES: u64 = 1024 * 1024 * 1024;

/// Bytes in a file with a public key: a few hundred.
pub(crate) const MAX_KEY_BYTES: u64 = 64 * 1024;

/// Bytes in the name of a snapshot. containerd's are a namespace, a number and what a client calls it.
#[cfg(target_os = "linux")]
pub(crate) const MAX_SNAPSHOT_KEY_BYTES: usize = 4096;

/// Bytes in a label of a snapshot, its name and value together: what containerd allows.
#[cfg(target_os = "linux")]
pub(crate) const MAX_LABEL_BYTES: usize = 4096;

/// Labels of a snapshot. Those of a pulled layer have six.
#[cfg(target_os = "linux")]
pub(crate) const MAX_SNAPSHOT_LABELS: usize = 256;

/// Bytes in a filter for snapshots: two labels and a name.
#[cfg(target_os = "linux")]
pub(crate) const MAX_FILTER_BYTES: usize = 16 * 1024;

/// Snapshots that lie on each other: layers of an image, of which 127 are many.
#[cfg(target_os = "linux")]
pub(crate) const MAX_SNAPSHOT_DEPTH: usize = 500;

/// Bytes of a request to the snapshotter: what gRPC allows if nobody says otherwise.
#[cfg(target_os = "linux")]
pub(crate) const MAX_SNAPSHOT_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Clients of the snapshotter at a time. containerd is one.
#[cfg(target_os = "linux")]
pub(crate) const MAX_SNAPSHOT_CONNECTIONS: usize = 64;

/// Bytes of an image's `/etc/passwd`, and of its `/etc/group`, that containerd is shown.
#[cfg(target_os = "linux")]
pub(crate) const MAX_USERS_BYTES: u64 = 1024 * 1024;

/// Images that the snapshotter remembers to be signed; after that it asks anew.
#[cfg(target_os = "linux")]
pub(crate) const MAX_ADMITTED: usize = 4096;
