//! Guests as short lists of steps, written out as WebAssembly text.
//!
//! A step that gives another error number than expected ends the guest with
//! exit code 100 plus the step's number, so that a test sees where it went
//! wrong. Numbers are preview1's: 44 is ENOENT, 51 ENOSPC, 69 EROFS.

use std::fmt::Write;

pub(crate) const OK: u32 = 0;
pub(crate) const EXIST: u32 = 20;
pub(crate) const MFILE: u32 = 33;
pub(crate) const NOENT: u32 = 44;
pub(crate) const NOSPC: u32 = 51;
pub(crate) const PERM: u32 = 63;
pub(crate) const ROFS: u32 = 69;

/// The first directory that a guest is shown.
pub(crate) const ROOT: u32 = 3;

/// Where a guest's constants begin; below is scratch space.
const DATA: usize = 4096;

/// Where a guest reads into: its second to last pages.
const BUFFER: usize = 0x10_0000;
const BUFFER_BYTES: usize = 0x10_0000;

const IMPORTS: &str = r#"
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $list (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
"#;

/// A guest in the making.
#[derive(Default)]
pub(crate) struct Script {
    data: Vec<u8>,
    code: String,
    steps: u32,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Gives the guest as text.
    pub(crate) fn wat(&self) -> String {
        let mut data = String::new();
        for byte in &self.data {
            write!(data, "\\{byte:02x}").unwrap();
        }
        format!(
            "(module {IMPORTS}\n  (memory (export \"memory\") 34)\n  \
             (data (i32.const {DATA}) \"{data}\")\n  \
             (func $expect (param i32 i32 i32)\n    \
             (if (i32.ne (local.get 0) (local.get 1)) (then (call $exit (local.get 2)))))\n  \
             (func $run\n{}  )\n  (func (export \"_start\") call $run))\n",
            self.code
        )
    }

    /// Writes to stdout.
    pub(crate) fn print(self, text: &str) -> Self {
        self.put(1, text.as_bytes())
    }

    /// Writes to stderr.
    pub(crate) fn complain(self, text: &str) -> Self {
        self.put(2, text.as_bytes())
    }

    /// Writes `kib` KiB of one letter to stdout.
    pub(crate) fn print_much(mut self, letter: char, kib: u32) -> Self {
        let page = letter.to_string().repeat(1023) + "\n";
        let (at, len) = self.constant(page.as_bytes());
        self.line(&iovec(at, len));
        let steps = self.steps;
        self.line(&format!(
            "(i32.store (i32.const 64) (i32.const {kib})) (loop ${steps} (drop (call $write \
             (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (i32.store (i32.const 64) \
             (i32.sub (i32.load (i32.const 64)) (i32.const 1))) (br_if ${steps} (i32.load (i32.const 64))))"
        ));
        self
    }

    /// Prints the arguments, a NUL after each.
    pub(crate) fn print_args(self) -> Self {
        self.print_list("args")
    }

    /// Prints the environment, a NUL after each.
    pub(crate) fn print_env(self) -> Self {
        self.print_list("env")
    }

    /// Copies stdin to stdout until its end, up to a MiB.
    pub(crate) fn echo(mut self) -> Self {
        let steps = self.steps;
        self.line(&format!(
            "(block $end{steps} (loop $more{steps} {} (drop (call $read (i32.const 0) (i32.const 0) \
             (i32.const 1) (i32.const 8))) (br_if $end{steps} (i32.eqz (i32.load (i32.const 8)))) {} \
             (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12))) (br $more{steps})))",
            iovec(BUFFER, BUFFER_BYTES),
            "(i32.store (i32.const 4) (i32.load (i32.const 8)))",
        ));
        self
    }

    /// Makes or replaces a file with this content.
    pub(crate) fn write(self, path: &str, bytes: &[u8]) -> Self {
        self.write_in(ROOT, path, bytes, OK, OK)
    }

    /// The same, in the directory `dir`, where opening and writing give these.
    pub(crate) fn write_in(
        mut self,
        dir: u32,
        path: &str,
        bytes: &[u8],
        opens: u32,
        writes: u32,
    ) -> Self {
        const CREATE_TRUNCATE: u32 = 1 | 8;
        const READ_WRITE: u32 = 2 | 64;
        self.open(dir, path, CREATE_TRUNCATE, READ_WRITE, opens);
        if opens == OK {
            let (at, len) = self.constant(bytes);
            self.line(&iovec(at, len));
            let call =
                "(call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8))";
            self.expect(call, writes);
            self.line("(drop (call $close (i32.load (i32.const 16))))");
        }
        self
    }

    /// Prints a file, up to a MiB.
    pub(crate) fn cat(self, path: &str) -> Self {
        self.cat_in(ROOT, path, OK)
    }

    /// The same, in the directory `dir`, where opening gives this.
    pub(crate) fn cat_in(mut self, dir: u32, path: &str, opens: u32) -> Self {
        self.open(dir, path, 0, 2, opens);
        if opens == OK {
            self.line(&iovec(BUFFER, BUFFER_BYTES));
            let call =
                "(call $read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8))";
            self.expect(call, OK);
            self.line("(i32.store (i32.const 4) (i32.load (i32.const 8)))");
            self.line(
                "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
            );
            self.line("(drop (call $close (i32.load (i32.const 16))))");
        }
        self
    }

    /// Opens a file and leaves it open.
    pub(crate) fn keep_open(mut self, path: &str, opens: u32) -> Self {
        self.open(ROOT, path, 0, 2, opens);
        self
    }

    /// Makes or replaces a file with this content, and leaves it open.
    pub(crate) fn write_and_keep_open(self, path: &str, bytes: &[u8]) -> Self {
        let mut kept = self.write_in(ROOT, path, bytes, OK, OK);
        let close = "    (drop (call $close (i32.load (i32.const 16))))\n";
        kept.code.truncate(kept.code.len() - close.len());
        kept
    }

    /// Prints a directory's entries as preview1 lays them out.
    pub(crate) fn list(mut self, dir: u32) -> Self {
        let call = format!(
            "(call $list (i32.const {dir}) (i32.const {BUFFER}) (i32.const {BUFFER_BYTES}) (i64.const 0) (i32.const 8))"
        );
        self.expect(&call, OK);
        self.line(&iovec(BUFFER, 0));
        self.line("(i32.store (i32.const 4) (i32.load (i32.const 8)))");
        self.line("(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))");
        self
    }

    pub(crate) fn unlink(mut self, path: &str, gives: u32) -> Self {
        let (at, len) = self.constant(path.as_bytes());
        let call = format!("(call $unlink (i32.const {ROOT}) (i32.const {at}) (i32.const {len}))");
        self.expect(&call, gives);
        self
    }

    pub(crate) fn mkdir(mut self, path: &str, gives: u32) -> Self {
        let (at, len) = self.constant(path.as_bytes());
        let call = format!("(call $mkdir (i32.const {ROOT}) (i32.const {at}) (i32.const {len}))");
        self.expect(&call, gives);
        self
    }

    pub(crate) fn rename(mut self, from: &str, to: &str) -> Self {
        let (from, from_len) = self.constant(from.as_bytes());
        let (to, to_len) = self.constant(to.as_bytes());
        let call = format!(
            "(call $rename (i32.const {ROOT}) (i32.const {from}) (i32.const {from_len}) \
             (i32.const {ROOT}) (i32.const {to}) (i32.const {to_len}))"
        );
        self.expect(&call, OK);
        self
    }

    pub(crate) fn exit(mut self, code: u32) -> Self {
        self.line(&format!("(call $exit (i32.const {code}))"));
        self
    }

    pub(crate) fn trap(mut self) -> Self {
        self.line("unreachable");
        self
    }

    /// Computes for ever.
    pub(crate) fn spin(mut self) -> Self {
        self.line("(loop $spin (br $spin))");
        self
    }

    /// Waits for `seconds`.
    pub(crate) fn sleep(mut self, seconds: u64) -> Self {
        // A subscription to the monotonic clock, relative.
        let nanos = seconds * 1_000_000_000;
        self.line(&format!(
            "(i64.store (i32.const 128) (i64.const 0)) (i64.store (i32.const 136) (i64.const 0)) \
             (i32.store (i32.const 144) (i32.const 1)) (i64.store (i32.const 152) (i64.const {nanos})) \
             (i64.store (i32.const 160) (i64.const 0)) (i64.store (i32.const 168) (i64.const 0))"
        ));
        self.expect(
            "(call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 8))",
            OK,
        );
        self
    }

    /// Asks for `pages` more pages of memory.
    pub(crate) fn grow(mut self, pages: u32) -> Self {
        self.line(&format!("(drop (memory.grow (i32.const {pages})))"));
        self
    }

    fn put(mut self, fd: u32, bytes: &[u8]) -> Self {
        let (at, len) = self.constant(bytes);
        self.line(&iovec(at, len));
        let call =
            format!("(call $write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8))");
        self.expect(&call, OK);
        self
    }

    fn print_list(mut self, what: &str) -> Self {
        self.expect(
            &format!("(call ${what}_sizes (i32.const 8) (i32.const 12))"),
            OK,
        );
        self.expect(
            &format!("(call ${what} (i32.const 1024) (i32.const {BUFFER}))"),
            OK,
        );
        self.line(&iovec(BUFFER, 0));
        self.line("(i32.store (i32.const 4) (i32.load (i32.const 12)))");
        self.expect(
            "(call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))",
            OK,
        );
        self
    }

    /// Opens a path; the descriptor comes to lie at 16.
    fn open(&mut self, dir: u32, path: &str, flags: u32, rights: u32, gives: u32) {
        let (at, len) = self.constant(path.as_bytes());
        let call = format!(
            "(call $open (i32.const {dir}) (i32.const 1) (i32.const {at}) (i32.const {len}) \
             (i32.const {flags}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 16))"
        );
        self.expect(&call, gives);
    }

    fn constant(&mut self, bytes: &[u8]) -> (usize, usize) {
        let at = DATA + self.data.len();
        self.data.extend_from_slice(bytes);
        (at, bytes.len())
    }

    fn expect(&mut self, call: &str, gives: u32) {
        let code = 100 + self.steps;
        self.line(&format!(
            "(call $expect {call} (i32.const {gives}) (i32.const {code}))"
        ));
        self.steps += 1;
    }

    fn line(&mut self, text: &str) {
        writeln!(self.code, "    {text}").unwrap();
    }
}

/// Puts one iovec at 0.
fn iovec(at: usize, len: usize) -> String {
    format!(
        "(i32.store (i32.const 0) (i32.const {at})) (i32.store (i32.const 4) (i32.const {len}))"
    )
}
