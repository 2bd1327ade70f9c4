;; A core module that writes "hello" into the file `greeting` of its first
;; directory.
(module
  (import "wasi_snapshot_preview1" "path_open" (func $path_open
    (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write
    (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "greetinghello")
  (data (i32.const 16) "\08\00\00\00\05\00\00\00")   ;; one iovec: "hello"
  (func $must (param $errno i32)
    (if (local.get $errno) (then unreachable)))
  (func (export "_start")
    (call $must (call $path_open
      (i32.const 3)                                  ;; the first directory
      (i32.const 0)                                  ;; lookup flags
      (i32.const 0) (i32.const 8)                    ;; "greeting"
      (i32.const 1)                                  ;; create
      (i64.const 64) (i64.const 0)                   ;; the right to write
      (i32.const 0)
      (i32.const 32)))
    (call $must (call $fd_write
      (i32.load (i32.const 32))
      (i32.const 16) (i32.const 1)
      (i32.const 36)))))
