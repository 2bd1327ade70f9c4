# Guests as text, for run.sh: each says a word, waits, loops, fails, fills something, or shows what it was given.

# guest NAME TEXT LENGTH BODY: writes src/NAME.wasm. The text lies at 16, an iovec at 0, a count at 8.
guest() {
    printf '(module
 (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_size (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env_size (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
 (memory (export "memory") 2) (data (i32.const 16) "%s")
 (func $put (param $fd i32) (param $at i32) (param $len i32) (result i32)
  (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $len))
  (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
 (func $say (drop (call $put (i32.const 1) (i32.const 16) (i32.const %d))))
 (func (export "_start") (local $error i32) %s))\n' "$2" "$3" "$4" >"src/$1.wasm"
}

# Waits for ten minutes.
pause='(i32.store (i32.const 144) (i32.const 1)) (i64.store (i32.const 152) (i64.const 600000000000))
  (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 8)))'

guests() {
    guest hello 'hello\0a' 6 '(call $say) (call $exit (i32.const 7))'
    guest spin 'x' 1 '(loop $l (br $l))'
    guest wait 'x' 1 "$pause"
    # Says that it is there, and waits.
    guest serve 'ready\0a' 6 "(call \$say) $pause"
    guest trap 'x' 1 '(unreachable)'
    # Grows past any bound of these tests, and uses what it has.
    guest grow 'x' 1 '(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (call $exit (i32.const 3))'
    # Says all that it was given, as the calls hand it over: texts that end with a zero.
    guest args 'x' 1 '(drop (call $args_size (i32.const 512) (i32.const 516))) (drop (call $args (i32.const 1024) (i32.const 4096)))
  (drop (call $put (i32.const 1) (i32.const 4096) (i32.load (i32.const 516))))'
    guest env 'x' 1 '(drop (call $env_size (i32.const 512) (i32.const 516))) (drop (call $env (i32.const 1024) (i32.const 4096)))
  (drop (call $put (i32.const 1) (i32.const 4096) (i32.load (i32.const 516))))'
    # Makes /mark, and exits with the error of that: 20 if it is there already, 69 where nothing may be written.
    guest mark 'mark' 4 '(call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 5)
  (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 12)))'
    # The same in the directory that it is shown as /shown: the one whose name has six bytes.
    guest shown 'mark' 4 '(local.set $error (i32.const 3))
  (loop $l (drop (call $prestat (local.get $error) (i32.const 512)))
   (if (i32.ne (i32.load (i32.const 516)) (i32.const 6))
    (then (local.set $error (i32.add (local.get $error) (i32.const 1))) (br_if $l (i32.lt_u (local.get $error) (i32.const 9))))))
  (call $exit (call $open (local.get $error) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 5)
  (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 12)))'
    # Writes /full until it fails, and exits with the error of that.
    guest fill 'full' 4 '(drop (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 1)
  (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 12)))
  (loop $l (local.set $error (call $put (i32.load (i32.const 12)) (i32.const 65536) (i32.const 65536)))
   (br_if $l (i32.eqz (local.get $error)))) (call $exit (local.get $error))'
    # Copies what it reads.
    guest copy 'x' 1 '(loop $l (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 1024))
  (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
  (if (i32.load (i32.const 8)) (then (drop (call $put (i32.const 1) (i32.const 1024) (i32.load (i32.const 8)))) (br $l))))'
    # Reads /noise to its end, and exits with the first error, or with 7.
    guest far 'noise' 5 '(local.set $error (call $open (i32.const 3) (i32.const 1) (i32.const 16) (i32.const 5) (i32.const 0)
  (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 12)))
  (if (local.get $error) (then (call $exit (local.get $error))))
  (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 65536))
  (loop $l (local.set $error (call $read (i32.load (i32.const 12)) (i32.const 0) (i32.const 1) (i32.const 8)))
   (if (local.get $error) (then (call $exit (local.get $error))))
   (br_if $l (i32.load (i32.const 8)))) (call $exit (i32.const 7))'
}
