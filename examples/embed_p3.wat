;; A component that makes the directory `greeting` in its first directory. The
;; calls are waited for; a guest with streams is built from Rust, see
;; guest-examples/three.
(component
  (import "wasi:filesystem/types@0.3.0" (instance $types
    (export "descriptor" (type $descriptor (sub resource)))
    (type $code-variant (variant
      (case "access") (case "already") (case "bad-descriptor") (case "busy") (case "deadlock")
      (case "quota") (case "exist") (case "file-too-large") (case "illegal-byte-sequence")
      (case "in-progress") (case "interrupted") (case "invalid") (case "io")
      (case "is-directory") (case "loop") (case "too-many-links") (case "message-size")
      (case "name-too-long") (case "no-device") (case "no-entry") (case "no-lock")
      (case "insufficient-memory") (case "insufficient-space") (case "not-directory")
      (case "not-empty") (case "not-recoverable") (case "unsupported") (case "no-tty")
      (case "no-such-device") (case "overflow") (case "not-permitted") (case "pipe")
      (case "read-only") (case "invalid-seek") (case "text-file-busy") (case "cross-device")
      (case "other" (option string))))
    (export "error-code" (type $code (eq $code-variant)))
    (export "[method]descriptor.create-directory-at" (func async
      (param "self" (borrow $descriptor)) (param "path" string)
      (result (result (error $code)))))))
  (alias export $types "descriptor" (type $descriptor))
  (import "wasi:filesystem/preopens@0.3.0" (instance $preopens
    (alias outer 1 $descriptor (type $outer))
    (export "descriptor" (type $descriptor (eq $outer)))
    (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))

  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 0) "greeting")
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      ;; Every result is wanted once: never freed, aligned to 8.
      (local $at i32)
      (local.set $at (global.get $free))
      (global.set $free (i32.and
        (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 7)) (i32.const -8)))
      (local.get $at)))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (core func $get-directories (canon lower (func $preopens "get-directories")
    (memory $mem) (realloc (core func $memory "realloc"))))
  (core func $create-directory-at (canon lower
    (func $types "[method]descriptor.create-directory-at")
    (memory $mem) (realloc (core func $memory "realloc"))))

  (core module $main
    (import "memory" "memory" (memory 1))
    (import "wasi" "get-directories" (func $get-directories (param i32)))
    (import "wasi" "create-directory-at" (func $create-directory-at (param i32 i32 i32 i32)))
    (func (export "run") (result i32)
      (call $get-directories (i32.const 64))
      (call $create-directory-at
        (i32.load (i32.load (i32.const 64)))   ;; the first directory
        (i32.const 0) (i32.const 8)            ;; "greeting"
        (i32.const 128))
      (i32.load8_u (i32.const 128))))
  (core instance $main (instantiate $main
    (with "memory" (instance $memory))
    (with "wasi" (instance
      (export "get-directories" (func $get-directories))
      (export "create-directory-at" (func $create-directory-at))))))
  (func $run async (result (result)) (canon lift (core func $main "run")))
  (instance $cli-run (export "run" (func $run)))
  (export "wasi:cli/run@0.3.0" (instance $cli-run)))
