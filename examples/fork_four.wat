;; A preview1 guest that writes one answer, and then others in its place. The
;; host calls what it exports: `prepare` once, then `attempt` with a number
;; from 0 to 3, each in a fork of what was prepared. Every error is a trap.
(module
  (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "desk")
  (data (i32.const 32) "desk/answer")
  (data (i32.const 64) "desk/notes")
  (data (i32.const 96) "none yet")
  ;; The answers: a row of 64 bytes each, its length in the first.
  (data (i32.const 256) "\10the first answer")
  (data (i32.const 320) "\20an answer that says it at length")
  (data (i32.const 384) "\05brief")
  (data (i32.const 448) "\0ea middling one")
  (func $check (param $errno i32)
    (if (local.get $errno) (then unreachable)))
  ;; Writes a file of the bytes given, made if it is missing.
  (func $put (param $path i32) (param $path_len i32) (param $data i32) (param $len i32)
    ;; Descriptor 3 is the root; 9 is to create and cut, 64 the right to write.
    (call $check (call $open (i32.const 3) (i32.const 0) (local.get $path) (local.get $path_len)
      (i32.const 9) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 0)))
    (i32.store (i32.const 4) (local.get $data))
    (i32.store (i32.const 8) (local.get $len))
    (call $check (call $write (i32.load (i32.const 0)) (i32.const 4) (i32.const 1) (i32.const 12)))
    (call $check (call $close (i32.load (i32.const 0)))))
  (func (export "prepare")
    (call $check (call $mkdir (i32.const 3) (i32.const 16) (i32.const 4)))
    (call $put (i32.const 32) (i32.const 11) (i32.const 96) (i32.const 8)))
  (func (export "attempt") (param $number i32)
    (local $row i32)
    (local.set $row (i32.add (i32.const 256) (i32.mul (i32.const 64) (local.get $number))))
    (call $put (i32.const 32) (i32.const 11)
      (i32.add (local.get $row) (i32.const 1)) (i32.load8_u (local.get $row)))
    ;; Who writes at length takes notes.
    (if (i32.gt_u (i32.load8_u (local.get $row)) (i32.const 16))
      (then (call $put (i32.const 64) (i32.const 10)
        (i32.add (local.get $row) (i32.const 1)) (i32.const 9))))))
