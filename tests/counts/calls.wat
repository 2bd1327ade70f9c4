;; Makes one call, or a few that belong together, again and again, so that what one
;; costs can be counted. `run.sh` gives two arguments: a letter that says which (`a`
;; is the first entry of the table below), and how often.
;;
;; The tree that it needs is in `run.sh` and in `tests/it/counts.rs`.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get"
    (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get"
    (func $fd_filestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread"
    (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pwrite"
    (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir"
    (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file"
    (func $path_unlink_file (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename"
    (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_remove_directory"
    (func $path_remove_directory (param i32 i32 i32) (result i32)))

  ;; Results of calls are at 64, iovecs at 256 and 264, arguments from 512 on, the
  ;; buffer from 8192 on.
  (memory (export "memory") 1)
  (data (i32.const 256) "\00\20\00\00\00\10\00\00")
  (data (i32.const 264) "\00\20\00\00\00\04\00\00")
  (data (i32.const 1024) "module.py")
  (data (i32.const 1056) "usr/lib/python3.11/site-packages/pkgname/sub/deep/module.py")
  (data (i32.const 1136) "usr/lib/python3.11/site-packages/pkgname/sub/deep/missng.py")
  (data (i32.const 1216) "rw/one")
  (data (i32.const 1232) "rw/two")
  (data (i32.const 1248) "rw/own")
  (data (i32.const 1264) "many")

  (type $call (func))
  (table funcref (elem
    $fstat $seek $pread $pwrite $stat_1 $stat_8 $missing_8 $open_1 $open_8
    $readdir $small $rename $mkdir))

  (func $expect (param $errno i32) (param $expected i32)
    (if (i32.ne (local.get $errno) (local.get $expected)) (then unreachable)))
  (func $ok (param $errno i32)
    (call $expect (local.get $errno) (i32.const 0)))

  ;; Opens a path below the preopened directory and returns the descriptor.
  (func $open (param $path i32) (param $len i32) (param $flags i32) (param $rights i64) (result i32)
    (call $ok (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (local.get $len)
      (local.get $flags) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 64)))
    (i32.load (i32.const 64)))
  (func $read_and_close (param $path i32) (param $len i32)
    (call $ok (call $fd_close
      (call $open (local.get $path) (local.get $len) (i32.const 0) (i64.const 0x200002)))))
  (func $stat (param $path i32) (param $len i32) (result i32)
    (call $path_filestat_get (i32.const 3) (i32.const 1) (local.get $path) (local.get $len)
      (i32.const 64)))

  (func $fstat (call $ok (call $fd_filestat_get (i32.const 4) (i32.const 64))))
  (func $seek
    (call $ok (call $fd_seek (i32.const 4) (i64.const 0) (i32.const 0) (i32.const 64))))
  (func $pread
    (call $ok
      (call $fd_pread (i32.const 4) (i32.const 256) (i32.const 1) (i64.const 0) (i32.const 64))))
  (func $pwrite
    (call $ok
      (call $fd_pwrite (i32.const 5) (i32.const 256) (i32.const 1) (i64.const 0) (i32.const 64))))
  (func $stat_1 (call $ok (call $stat (i32.const 1024) (i32.const 9))))
  (func $stat_8 (call $ok (call $stat (i32.const 1056) (i32.const 59))))
  (func $missing_8 (call $expect (call $stat (i32.const 1136) (i32.const 59)) (i32.const 44)))
  (func $open_1 (call $read_and_close (i32.const 1024) (i32.const 9)))
  (func $open_8 (call $read_and_close (i32.const 1056) (i32.const 59)))
  (func $readdir
    (call $ok (call $fd_readdir (i32.const 6) (i32.const 8192) (i32.const 8192) (i64.const 0)
      (i32.const 64))))
  (func $small
    (local $fd i32)
    (local.set $fd
      (call $open (i32.const 1216) (i32.const 6) (i32.const 9) (i64.const 0x40)))
    (call $ok (call $fd_write (local.get $fd) (i32.const 264) (i32.const 1) (i32.const 64)))
    (call $ok (call $fd_close (local.get $fd)))
    (call $ok (call $path_unlink_file (i32.const 3) (i32.const 1216) (i32.const 6))))
  (func $rename
    (call $ok (call $path_rename (i32.const 3) (i32.const 1248) (i32.const 6)
      (i32.const 3) (i32.const 1232) (i32.const 6)))
    (call $ok (call $path_rename (i32.const 3) (i32.const 1232) (i32.const 6)
      (i32.const 3) (i32.const 1248) (i32.const 6))))
  (func $mkdir
    (call $ok (call $path_create_directory (i32.const 3) (i32.const 1216) (i32.const 6)))
    (call $ok (call $path_remove_directory (i32.const 3) (i32.const 1216) (i32.const 6))))

  ;; Opens what the calls work on: 4 is a file of the base, 5 one of the guest's own
  ;; with a block in it, 6 a directory.
  (func $prepare (export "prepare")
    (drop (call $open (i32.const 1024) (i32.const 9) (i32.const 0) (i64.const 0x200006)))
    (drop (call $open (i32.const 1248) (i32.const 6) (i32.const 9) (i64.const 0x46)))
    (drop (call $open (i32.const 1264) (i32.const 4) (i32.const 2) (i64.const 0x4000)))
    (call $pwrite))

  (func $repeat (export "repeat") (param $which i32) (param $times i32)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $times)))
        (call_indirect (type $call) (local.get $which))
        (local.set $times (i32.sub (local.get $times) (i32.const 1)))
        (br $again))))

  ;; Reads a number that ends in NUL.
  (func $number (param $at i32) (result i32)
    (local $number i32)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (i32.load8_u (local.get $at))))
        (local.set $number (i32.add (i32.mul (local.get $number) (i32.const 10))
          (i32.sub (i32.load8_u (local.get $at)) (i32.const 48))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $again)))
    (local.get $number))

  (func (export "_start")
    (call $ok (call $args_sizes_get (i32.const 64) (i32.const 68)))
    (call $expect (i32.load (i32.const 64)) (i32.const 3))
    (call $ok (call $args_get (i32.const 512) (i32.const 544)))
    (call $prepare)
    (call $repeat
      (i32.sub (i32.load8_u (i32.load (i32.const 516))) (i32.const 97))
      (call $number (i32.load (i32.const 520))))))
