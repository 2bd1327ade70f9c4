# File work of all kinds; prints what it sees, nothing that depends on the host.
require "fileutils"
require "find"
require "tempfile"
require "tmpdir"
require "digest"

def show(what, value) = puts("#{what}: #{value.inspect}")

def caught
  yield
rescue SystemCallError => e
  e.class
end

Dir.chdir("/work")
FileUtils.mkdir_p("a/b/c/d/e")
40.times { |i| File.write("a/f%02d.txt" % i, "line #{i}\n" * (i * 37)) }
FileUtils.cp_r("a", "copy")
FileUtils.mv("copy/f01.txt", "copy/b/c/moved.txt")
FileUtils.rm(Dir.glob("copy/f3*.txt"))
File.symlink("../a/f02.txt", "copy/link")
File.link("a/f03.txt", "a/hard")
show "glob", Dir.glob("**/*").sort.length
show "children", Dir.children("copy").sort
show "each_child", Dir.each_child("a").sort.last(3)
show "readlink", File.readlink("copy/link")
show "through the link", File.size("copy/link")
show "nlink", File.stat("a/hard").nlink
show "same", File.identical?("a/hard", "a/f03.txt")
show "inodes", File.stat("a/hard").ino == File.stat("a/f03.txt").ino
show "kinds", [File.ftype("a"), File.ftype("a/hard"), File.lstat("copy/link").ftype]

show "Find", Find.find("copy").map { |f| File.directory?(f) ? f + "/" : f }.sort
pruned = []
Find.find("a") { |f| f == "a/b" ? Find.prune : pruned << f }
show "pruned", pruned.length

# In place, appended, cut, with holes.
File.open("big", "w+b") do |f|
  f.seek(1 << 20)
  f.write("end")
  f.rewind
  f.write("start")
  show "hole", [f.size, f.pread(5, 0), f.pread(4, 4096).bytes.uniq, f.pread(3, 1 << 20)]
  f.truncate(5000)
  f.seek(-2, IO::SEEK_END)
  show "tail", [f.read.bytes, f.pos, f.eof?]
end
File.open("big", "ab") { |f| f.write("appended"); show "append", f.pos }
show "big", Digest::SHA256.file("big").hexdigest
show "rename onto", [File.rename("big", "a/f05.txt"), File.size("a/f05.txt"), File.exist?("big")]
File.utime(1_000_000_000, 1_100_000_000, "a/f06.txt")
show "utime", [File.atime("a/f06.txt").to_i, File.mtime("a/f06.txt").to_i]
show "newer", FileUtils.uptodate?("a/f07.txt", ["a/f06.txt"])
show "lines", File.foreach("a/f10.txt").count
show "IO.copy_stream", IO.copy_stream("a/f39.txt", "streamed")
show "identical", FileUtils.identical?("a/f39.txt", "streamed")

# Errors by class.
show "errors", [
  caught { File.open("none") }, caught { Dir.mkdir("a") }, caught { Dir.rmdir("a") },
  caught { File.open("a", "w") }, caught { File.rename("a", "a/b/x") }, caught { File.readlink("streamed") },
  caught { Dir.children("streamed") }, caught { File.open("streamed", File::CREAT | File::EXCL | File::WRONLY) },
  caught { File.open("streamed/x") }, caught { File.unlink("none") }, caught { File.open("x" * 256, "w") },
]
File.symlink("loop", "loop")
show "loop", caught { File.open("loop") }

show "flock", caught { File.open("store", "w") { |f| f.flock(File::LOCK_EX) } }

Tempfile.create("part", "/work") { |f| f.write("x" * 100_000); f.flush; show "Tempfile", File.size(f.path) }
Dir.mktmpdir("dir", "/work") { |d| File.write("#{d}/x", "y"); show "mktmpdir", Dir.children(d) }
show "after", Dir.children(".").sort
# A directory that shrinks while it is listed.
FileUtils.mkdir("many")
300.times { |i| File.write("many/#{i}", "") }
seen = 0
Dir.each_child("many") { |f| File.unlink("many/#{f}"); seen += 1 }
left = Dir.children("many").length
$stderr.puts "of 300 entries #{seen} were seen and removed, #{left} are left"
FileUtils.rm_rf("many")
FileUtils.rm_rf("copy")
show "end", Dir.glob("**/*", File::FNM_DOTMATCH).length
