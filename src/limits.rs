//! Every bound of the crate, with its unit and the reason for its value.
//!
//! `tests/it/limits.rs` holds a test for each.

/// Bytes in one name. Linux's `NAME_MAX`, and what WASI guests expect.
pub const MAX_NAME_BYTES: usize = 255;

/// Bytes in a path that a guest or the host hands to one call. Linux's
/// `PATH_MAX` less its NUL.
pub const MAX_PATH_BYTES: usize = 4095;

/// Bytes in a path of an entry of a layer, after normalising. Larger than
/// [`MAX_PATH_BYTES`] since a tree deeper than one path can name is legal.
pub const MAX_LAYER_PATH_BYTES: usize = 16 * 1024;

/// Components in a path of an entry of a layer.
pub const MAX_LAYER_DEPTH: usize = 4096;

/// Bytes in the target of a symbolic link. Linux's `PATH_MAX` less its NUL.
pub const MAX_SYMLINK_BYTES: usize = 4095;

/// Rules for objects of one instance: each renaming of a directory looks at all.
pub const MAX_RULES: usize = 1024;

/// Directories and files that a host mounts in one instance.
pub const MAX_MOUNTS: usize = 1024;

/// Directories that a host keeps in place in one instance, those that something
/// is mounted on included: going back to a snapshot looks at all.
pub const MAX_PLACES: usize = 4096;

/// Bytes that one opening of a virtual file provided by the host reads.
pub const MAX_VIRTUAL_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that all open descriptors of such files hold together in one instance:
/// a host may make new bytes at each opening.
pub const MAX_OPEN_VIRTUAL_BYTES: u64 = 64 * 1024 * 1024;

/// Symbolic links followed in one path walk. Linux's `MAXSYMLINKS`.
pub const MAX_SYMLINKS: usize = 40;

/// Bytes in a file. ext4's bound with 4 KiB blocks (16 TiB less one block).
pub const MAX_FILE_BYTES: u64 = (1 << 44) - 4096;

/// Hard links to one file. ext4 stops at 65,000.
pub const MAX_LINKS: u32 = 65_000;

/// Bytes in one content chunk: the unit in which base content is hashed and
/// shared. A power of two, a multiple of [`BLOCK_BYTES`].
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes in one overlay block: the unit of copy-on-write. One page, so that a
/// guest which edits a database copies what it edits (docs/DECISIONS.md).
pub const BLOCK_BYTES: usize = 4096;

/// Layers in one image. Docker allows 127; this leaves room for long chains.
pub const MAX_LAYERS: usize = 4096;

/// Entries in one layer. 32-bit numbers name nodes of an index.
pub const MAX_LAYER_ENTRIES: u64 = 50_000_000;

/// Bytes of file content in one layer, holes not counted, when the importer
/// names no other bound.
pub const DEFAULT_MAX_LAYER_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// Bytes of a compressed archive once expanded, for each byte before, from
/// [`RATIO_FLOOR_BYTES`] on: gzip tops out near 1,032, and no honest layer
/// comes close.
pub const MAX_EXPANSION_RATIO: u64 = 200;

/// Expanded bytes below which the expansion ratio is not looked at.
pub const RATIO_FLOOR_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes in one PAX header or GNU long name of a tar archive.
pub const MAX_TAR_EXTENSION_BYTES: u64 = 1024 * 1024;

/// Segments in the map of one GNU sparse file of a tar archive.
pub const MAX_SPARSE_SEGMENTS: usize = 1 << 16;

/// Bytes of extended attributes of one entry. Linux's `XATTR_LIST_MAX`.
pub const MAX_XATTR_BYTES: usize = 64 * 1024;

/// Window of a zstd stream, as a power of two of bytes (128 MiB, what
/// `zstd --long` writes by default at most).
pub const MAX_ZSTD_WINDOW_LOG: u32 = 27;

/// Bytes of memory that unpacking xz takes: room for a dictionary of 128 MiB, as
/// for zstd. `xz -9` has 64 MiB.
pub const MAX_XZ_MEMORY_BYTES: u64 = 129 * 1024 * 1024;

/// Bytes in one JSON document of an OCI image. What registries take.
pub const MAX_OCI_DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes in a program of WebAssembly that is an OCI artifact. CPython has 30 MB.
pub const MAX_ARTIFACT_BYTES: u64 = 256 * 1024 * 1024;

/// Image indexes inside image indexes. Tools nest one in `index.json`.
pub const MAX_OCI_NESTING: u32 = 4;

/// Images that the indexes of one OCI layout name together.
pub const MAX_OCI_IMAGES: usize = 1024;

/// Private bytes of one instance when its builder names no other quota.
pub const DEFAULT_MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Objects of the base that one instance changes when its builder names no
/// other quota. Each costs its host up to [`OBJECT_BYTES`].
pub const DEFAULT_MAX_CHANGED: u64 = 1_000_000;

/// Blocks of one file, 256 MiB, that are sealed at most when it is closed: what a
/// close costs at most under [`Sealing::AtClose`](crate::vfs::Sealing::AtClose).
/// Of a file of which more was written, all stay as they are until
/// [`Fs::seal`](crate::vfs::Fs::seal).
pub const MAX_CLOSE_BLOCKS: u64 = 65_536;

/// Bytes that [`Usage::held_bytes`](crate::vfs::Usage::held_bytes) counts for
/// each block that was written, its bytes and the first of a file not counted:
/// what the bookkeeping of one costs a host at most.
pub const BLOCK_COST_BYTES: u64 = 320;

/// Bytes that are counted for each name of the base that an instance removed:
/// what it costs a host at most to remember that.
pub const REMOVED_BYTES: u32 = 192;

/// Bytes that are counted for each further hard link that was made, its name of
/// up to [`MAX_NAME_BYTES`] included.
pub const LINK_BYTES: u32 = 1024;

/// Bytes that are counted for each open descriptor.
pub const DESCRIPTOR_BYTES: u64 = 512;

/// Bytes of an instance's byte quota for each private block, the first of a
/// file not counted: bookkeeping of a block costs about a hundred bytes, which
/// sparse writes of single bytes could multiply past any quota.
pub const QUOTA_BYTES_PER_BLOCK: u64 = 512;

/// Private blocks beyond the first of a file that an instance may have
/// whatever its byte quota.
pub const FREE_BLOCKS: u64 = 4096;

/// Bytes that a [`Budget`](crate::budget::Budget) counts for each object that
/// an instance made or changed, its blocks and a link's target beside: what one
/// costs a host at most.
pub const OBJECT_BYTES: u32 = 1536;

/// The share of a [`Budget`](crate::budget::Budget) with a file to spill to that
/// blocks of files leave to objects: one of so many bytes. Objects never go to the
/// file, and without a share of their own none could be made once blocks have
/// taken all memory.
pub const SPILL_RESERVE: u64 = 4;

/// Bytes of a file written whole below which it is compared with the base
/// only, and not held in a scope: finding and keeping it there would take more
/// than it saves.
pub const MIN_SCOPED_BYTES: u64 = 4096;

/// Files of one size in a base that are compared with one that a guest wrote,
/// to hold both once.
pub const MAX_FILES_OF_ONE_SIZE: usize = 256;

/// Objects of an image in which the equals of what guests write are looked for.
/// The first look sorts all its files by size: half a second and 100 MB for so
/// many, of which 32 MB stay. In a larger image none are found.
pub const MAX_OBJECTS_BY_SIZE: u32 = 4 << 20;

/// Objects created and not yet gone of one instance when its builder names
/// no other quota.
pub const DEFAULT_MAX_INODES: u64 = 1_000_000;

/// Open descriptors of one instance when its builder names no other quota.
pub const DEFAULT_MAX_OPEN: u32 = 16_384;

/// Bytes that one `read` of an 0.2 guest gets at most: the host has to hold
/// them while they cross into the component.
pub const MAX_HOST_READ_BYTES: usize = 1024 * 1024;

/// Bytes that one read or write of a file with tokio's traits moves: what a task may copy,
/// or read from a store and verify, before others have their turn.
pub const MAX_ASYNC_FILE_BYTES: usize = 256 * 1024;

/// Bytes that an 0.2 output stream takes in one `write`.
pub const MAX_STREAM_WRITE_BYTES: usize = 1024 * 1024;

/// Bytes that an 0.3 stream moves in one step: a guest with a larger buffer
/// gets the rest in further steps, between which it can be stopped.
pub const MAX_STREAM_STEP_BYTES: usize = 1024 * 1024;

/// Subscriptions in one `poll_oneoff`.
pub const MAX_POLL_SUBSCRIPTIONS: usize = 4096;

/// Numbers in one guest's table of preview1 descriptors, open or not: Linux's
/// `fs.nr_open`. [`DEFAULT_MAX_OPEN`] is reached long before.
pub const MAX_TABLE_SLOTS: usize = 1 << 20;

/// Bytes of arguments and environment of one guest together, a NUL for each
/// included. Linux's `ARG_MAX` with the usual stack of 8 MiB.
pub const MAX_ARGUMENT_BYTES: usize = 2 * 1024 * 1024;

/// Elements in one table of a guest: eight bytes of the host each. CPython
/// has seven thousand.
pub const MAX_TABLE_ELEMENTS: usize = 1 << 20;

/// Memories in the pool of one engine. Each reserves 4 GiB of addresses and
/// guards; a process has 128 TiB on x86-64.
pub const MAX_POOLED_MEMORIES: u32 = 4096;

/// Bytes of output held for an instance that runs among others, so that it
/// comes out in one piece; a longer one is passed on in pieces of this size.
pub const MAX_HELD_OUTPUT_BYTES: usize = 1024 * 1024;

/// Bytes of a line of output held until its end; a longer one is passed on in
/// pieces of this size. The longest line that Linux takes from a terminal.
pub const MAX_LINE_BYTES: usize = 4096;

/// Instances in one run of the command line. Each has its figures and its
/// file system in memory until the end.
pub const MAX_INSTANCES: u32 = 1_000_000;

/// Ranges that a trace keeps of one file: a read looks through them.
pub const MAX_TRACE_RANGES: usize = 1024;

/// Files that one trace keeps: further ones are counted only. The host that asks
/// for a trace pays for it, about a hundred bytes for each, no guest's quota does.
pub const MAX_TRACE_FILES: usize = 1 << 18;

/// Ranges that one trace keeps of all its files together, the first of each
/// file not counted: from then on what is read of a file becomes one range with
/// what is nearest. About fifty bytes for each.
pub const MAX_TRACE_ALL_RANGES: usize = 1 << 20;

/// Bytes that one read of a device, such as `/dev/zero`, returns: a guest can be stopped
/// between two.
pub const MAX_DEVICE_STEP_BYTES: usize = 1024 * 1024;

/// Volumes of one run of guests. Each is a file system of its own.
pub const MAX_VOLUMES: usize = 1024;

/// Directories of the layered file system that one run shows a guest, besides volumes and those of
/// the host.
pub const MAX_SHOWN_DIRS: usize = 4096;

/// Threads in one run of the command line: far more than there are cores.
pub const MAX_THREADS: u32 = 1024;

/// Guests whose compiled code is kept on disk; the ones used longest ago go.
pub const MAX_CACHED_GUESTS: usize = 64;

/// Bytes of compiled code that are kept on disk; the guests used longest ago
/// go. CPython takes 30 MB.
pub const MAX_CACHED_BYTES: u64 = 1024 * 1024 * 1024;

/// Bytes of single compiled functions that are kept on disk for the checkpoints of one
/// program. Those of CPython take 19 to 25 MB.
pub const MAX_FUNCTION_BYTES: usize = 256 * 1024 * 1024;

/// Bytes in a chunk at rest: the least, what most have, the most. Measured on
/// consecutive versions of packages, databases and logs (docs/DECISIONS.md).
pub const REST_CHUNK_MIN_BYTES: usize = 2 * 1024;

/// See [`REST_CHUNK_MIN_BYTES`].
pub const REST_CHUNK_AVERAGE_BYTES: usize = 8 * 1024;

/// See [`REST_CHUNK_MIN_BYTES`].
pub const REST_CHUNK_MAX_BYTES: usize = 64 * 1024;

/// Bytes of a layer's tar from which on a frame ends with the next chunk: what is fetched for
/// one byte at least, and what is compressed apart. Half of it costs 1 % of size more, twice as
/// much a fifth more bytes to start.
pub const FRAME_BYTES: usize = 128 * 1024;

/// Bytes of one frame, compressed or not, that a table may claim.
pub const MAX_FRAME_BYTES: u32 = 1024 * 1024;

/// Chunks in the table of a layer: of 8 GiB of files. What is larger has no table, and is
/// fetched whole.
pub const MAX_FRAME_CHUNKS: usize = 1 << 20;

/// Bytes in the table of a layer, compressed or not: 44 for each chunk, and the entries.
pub const MAX_FRAME_TABLE_BYTES: usize = 128 * 1024 * 1024;

/// Bytes in all tables that are fetched for one image, as they come and decompressed: a pull of 64 GiB
/// in packs has a third of a gigabyte of them. One is in memory at a time.
pub const MAX_IMAGE_TABLES_BYTES: u64 = 512 * 1024 * 1024;

/// Bytes of a pack's table, as it lies there, up to which it is sent with those of other packs: of
/// 4 MB of files. A larger one costs each version more than a request.
pub const MAX_LISTED_TABLE_BYTES: usize = 16 * 1024;

/// Bytes of all tables that are sent together: as many as there are small packs.
pub const MAX_LISTED_TABLES_BYTES: u64 = 256 * 1024;

/// Packs of an image that is published as packs: each costs a request, and has a quarter of a
/// gigabyte once it is full.
pub const MAX_PACKED_PACKS: usize = 1024;

/// Bytes of the entries of all layers of an image in packs, decompressed, and likewise of the blobs that they
/// are put together of: they are in memory while the image is taken in.
pub const MAX_PACKED_LAYERS_BYTES: u64 = 256 * 1024 * 1024;

/// Bytes of a blob that the manifest of an image in packs has itself, so that a first start does not ask
/// for it: more costs each version more than a request.
pub const MAX_INLINE_BLOB_BYTES: usize = 4 * 1024;

/// Bytes of all blobs that the manifest has itself.
pub const MAX_INLINE_BYTES: usize = 8 * 1024;

/// Packs that are not full, of an image that is pushed as packs: with more, the smallest
/// are sent anew as one. A first start asks for the table of each.
pub const MAX_PUSHED_PACKS: usize = 16;

/// Packs that are left then, so that eight more pushes pass before it is done again.
pub const KEPT_PACKS: usize = 8;

/// How much of a published pack has to be in use, in percent, so that a push names it again.
pub const MIN_PUSHED_USE_PERCENT: u64 = 50;

/// Chunks of published packs that a push looks at: 32 GiB of files, half a gigabyte of memory.
pub const MAX_EARLIER_CHUNKS: usize = 4 << 20;

/// Bytes of a blob that are fetched at once when something is read that is not here.
pub const MAX_FETCHED_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes of a blob that are fetched together at least, if so many follow that are not here: about
/// what comes in the time that a request takes.
pub const MIN_FETCHED_BYTES: u64 = 256 * 1024;

/// Fetches of one store in a process at a time.
pub const MAX_FETCHES: usize = 4;

/// Homes that are kept of what an image lacks: a registry, and mirrors of it.
pub const MAX_HOMES: usize = 8;

/// Seconds in which a home that failed is asked after the others: finding that out again takes some
/// seconds of a read.
pub const FAILED_HOME_SECONDS: u64 = 600;

/// Seconds in which what could not be fetched is not fetched again: whoever waited is told.
pub const FAILED_FETCH_SECONDS: u64 = 2;

/// Bytes of chunks in a pack from which on the next one is begun: a pack is
/// what is removed at once, and its table is what is read at once.
pub const MAX_PACK_BYTES: u64 = 256 * 1024 * 1024;

/// Packs of one store that keep a descriptor open, in a process; further ones
/// are mapped and need none. An image of 16 GiB has as many.
pub const MAX_OPEN_PACKS: usize = 64;

/// Percent of a pack's bytes that must be in use, and in no other pack, for a
/// collection to leave it as it is: so a store has a third at most that is of
/// no use, and a byte is not moved again and again for a few that are gone.
pub const MIN_PACK_USE_PERCENT: u64 = 75;

/// Bytes of a file that `Fs::read` gives at most: a system that promises more
/// memory than it has would be asked for what a hole of a few bytes' cost says.
pub const MAX_WHOLE_READ_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Bytes of a file that `Fs::prefetch` reads at a time.
pub const MAX_PREFETCH_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes of holes from which on a file is written into an archive as a sparse
/// one: readers that do not know these are spared files that gain little.
pub const MIN_SPARSE_BYTES: u64 = 1024 * 1024;

/// Bytes of holes that one archive holds as zeros before every file with a
/// hole is written as a sparse one.
pub const MAX_ZEROS_BYTES: u64 = 64 * 1024 * 1024;

/// Runs of data in a sparse file that is written into an archive: 30 bytes of
/// its map each, which readers take up to 1 MiB.
pub const MAX_SPARSE_RUNS: usize = 32 * 1024;

/// Bytes of zeros between the runs of a sparse file for each byte of data that
/// an archive holds at most.
pub const MAX_SPARSE_RATIO: u64 = 4;

/// Bytes that an entry of a layer counts as metadata, its name, link target
/// and extended attributes beside: about what it costs in memory.
pub const ENTRY_BYTES: u64 = 400;

/// Bytes of metadata that an archive may have whatever its size.
pub const METADATA_FLOOR_BYTES: u64 = 512 * 1024 * 1024;

/// Bytes of metadata past [`METADATA_FLOOR_BYTES`] for each byte of an archive,
/// compressed as it came. Entries of images have six.
pub const MAX_METADATA_RATIO: u64 = 20;

/// Bytes of names of members that are held of an archive with an image in it,
/// 128 for each member beside. Layouts have a few dozen members.
pub const MAX_OCI_MEMBER_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes in the tag of an image.
pub const MAX_TAG_BYTES: usize = 255;

/// Bytes in one memory of a program that is frozen: they stand in a module, and a module
/// of more than 1 GiB is none for the engine. This leaves room for the code.
pub const MAX_CHECKPOINT_MEMORY: u64 = 960 << 20;

/// Bytes of the program of a checkpoint: what the engine takes for a module.
pub const MAX_CHECKPOINT_PROGRAM: u64 = 1 << 30;

/// Bytes of what an image says of its checkpoint: a full table of descriptors with paths
/// of usual length.
pub const MAX_CHECKPOINT_STATE: u64 = 16 << 20;

/// Pieces of the numbers of objects that a checkpoint keeps for its guest: a guest that made or
/// removed more than half as many files finds them under new inode numbers.
pub const MAX_KNOWN_RUNS: usize = 1 << 17;

/// Changed objects whose times of access and change a checkpoint keeps. Where there are more
/// they have the times of a layer.
pub const MAX_KNOWN_TIMES: usize = 1 << 16;

/// Bytes of the names in changed directories that a checkpoint keeps the order of. Past it they
/// are listed by name.
pub const MAX_KNOWN_ORDER_BYTES: usize = 8 << 20;

/// Bytes of the functions on a stack that is frozen, each counted as often as it is there:
/// what goes on holds each of them once more.
pub const MAX_CONTINUED_BYTES: u64 = 256 << 20;

/// Pages of 64 KiB that the frames of a stack take while it is left. A frame of CPython's
/// evaluation loop takes 2 KiB.
pub const MAX_FRAME_PAGES: u64 = 1024;

/// Bytes that are added to a program for each byte of its code so that it can leave its stack,
/// beside [`ADDED_CODE_BYTES`]. Programs that compilers made have about half a byte; code of
/// calls alone has ten.
pub const MAX_ADDED_CODE_RATIO: u64 = 16;

/// Bytes that are added to a program in any case: the locals of a small function may be many.
pub const ADDED_CODE_BYTES: u64 = 16 << 20;

/// Bytes of the code that goes on from a stack: that of its functions, which
/// [`MAX_CONTINUED_BYTES`] bounds, and as much again for what their frames hold.
pub const MAX_CONTINUATION_BYTES: u64 = 2 * MAX_CONTINUED_BYTES;

/// Values in all function types together that are added to a program for its blocks.
pub const MAX_ADDED_TYPE_VALUES: usize = 4 << 20;

/// Bytes in an answer of a token server. Tokens have a few thousand.
pub const MAX_TOKEN_ANSWER_BYTES: u64 = 256 * 1024;

/// Bytes in the head of an answer of a registry: tokens and addresses of storage have
/// a few thousand.
pub const MAX_ANSWER_HEADER_BYTES: usize = 64 * 1024;

/// Bytes of what a registry says of a failure that are read.
pub const MAX_REGISTRY_ERROR_BYTES: u64 = 64 * 1024;

/// Seconds that a registry may ask to wait before it is asked again. If it asks for more,
/// that is told instead.
pub const MAX_RETRY_AFTER_SECONDS: u64 = 60;

/// Pages of one list of tags.
pub const MAX_TAG_PAGES: usize = 1_000;

/// Tags in one list: 128 bytes each at most.
pub const MAX_TAGS: usize = 1_000_000;

/// What a registry lists about one manifest: signatures, lists of parts, by digest.
pub const MAX_REFERRERS: usize = 1024;

/// Signatures of an image that are looked at: each may cost a request.
pub const MAX_SIGNATURES: usize = 256;

/// Bytes of what a signature is of, or of a bundle with one: they have some thousand.
pub const MAX_SIGNATURE_BYTES: u64 = 1024 * 1024;

/// Bytes of a blob that go to an object store or come from it in one request.
pub const OBJECT_PART_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes in an answer of an object store: a part of a blob, or a page of a list.
pub const MAX_OBJECT_ANSWER_BYTES: u64 = 32 * 1024 * 1024;

/// Seconds after which whoever is at work in an object store, and has not said so again, is
/// taken for dead.
pub const OBJECT_LEASE_SECONDS: u64 = 15 * 60;

/// Bytes of a blob that are sent to a registry at once, unless it wants more: what is lost
/// when that breaks off and the registry does not say how far it came.
pub const UPLOAD_CHUNK_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes of a blob that a registry can want at once at least.
pub const MAX_UPLOAD_CHUNK_BYTES: u64 = 1024 * 1024 * 1024;

/// Bytes of an answer of a credential helper.
pub const MAX_HELPER_BYTES: u64 = 256 * 1024;

/// Bytes in a file of credentials, or of mirrors.
pub const MAX_REGISTRY_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// Seconds after which what an interrupted pull left of a blob goes when the next pull
/// begins: a week.
pub const MAX_INCOMING_AGE_SECONDS: u64 = 7 * 24 * 3600;
/// Bytes of a path that are told of one call of a guest; what is longer is cut.
pub const MAX_TRACED_PATH_BYTES: usize = 1024;

/// Bytes of content that are told of one call of a guest. As many as `strace` shows.
pub const MAX_TRACED_CONTENT_BYTES: usize = 32;

/// Buffers of one call of a guest that are looked at to tell of it: more than any
/// libc passes at once (`IOV_MAX` is as many on Linux).
pub const MAX_TRACED_BUFFERS: u32 = 1024;
