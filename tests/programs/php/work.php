<?php
// File work of all kinds; prints what it sees, nothing that depends on the host.
// A session can be opened while no output went out.
ob_start();
error_reporting(E_ALL);
ini_set('display_errors', '1');
ini_set('html_errors', '0');
function show($what, $value) { echo $what, ': ', json_encode($value), "\n"; }
function quiet($call) {
    set_error_handler(function ($no, $text) use (&$said) { $said = preg_replace('/^.*: /', '', $text); return true; });
    $value = $call();
    restore_error_handler();
    return [$value, $said ?? null];
}

chdir('/work');
mkdir('tree/of/some/depth', 0777, true);
for ($i = 0; $i < 50; $i++) {
    file_put_contents("tree/$i.csv", implode("\n", array_map(fn ($n) => "$i,$n," . md5("$i/$n"), range(1, $i * 3 + 1))) . "\n");
}
show('sizes', array_sum(array_map('filesize', glob('tree/*.csv'))));
show('glob', array_map('basename', glob('tree/[12][05].csv')));
$bytes = 0;
$names = [];
foreach (new RecursiveIteratorIterator(new RecursiveDirectoryIterator('tree', FilesystemIterator::SKIP_DOTS), RecursiveIteratorIterator::SELF_FIRST) as $path => $info) {
    $names[] = $path;
    $bytes += $info->isFile() ? $info->getSize() : 0;
}
sort($names);
show('recursive', [count($names), $names[0], end($names), $bytes]);

$file = new SplFileObject('tree/49.csv');
$file->setFlags(SplFileObject::READ_CSV | SplFileObject::SKIP_EMPTY | SplFileObject::READ_AHEAD);
$file->seek(100);
show('seek to a line', $file->current());
$rows = 0;
foreach ($file as $row) { $rows += count($row) === 3 ? 1 : 0; }
show('rows', $rows);

$file = new SplFileObject('log', 'a+');
foreach (range(1, 500) as $n) { $file->fwrite("entry $n\n"); }
show('appended', [$file->ftell(), $file->fstat()['size']]);
show('flock', quiet(fn () => $file->flock(LOCK_EX)));
$file->rewind();
show('first', rtrim($file->fgets()));
$file = null;

// Filters, on the way in and out.
$out = fopen('filtered', 'w');
stream_filter_append($out, 'string.rot13');
stream_filter_append($out, 'convert.base64-encode');
fwrite($out, str_repeat("The quick brown fox\n", 1000));
fclose($out);
show('filtered', [filesize('filtered'), md5_file('filtered')]);
show('back', md5(file_get_contents('php://filter/read=convert.base64-decode|string.rot13/resource=filtered')));

// In place, cut, with holes.
$f = fopen('holes', 'w+');
fseek($f, 1 << 20);
fwrite($f, 'end');
rewind($f);
fwrite($f, 'start');
show('holes', [fstat($f)['size'], fread($f, 3), ftell($f)]);
ftruncate($f, 10);
rewind($f);
show('cut', [bin2hex(stream_get_contents($f)), feof($f)]);
fclose($f);
$f = fopen('php://temp/maxmemory:1024', 'w+');
fwrite($f, str_repeat('x', 5000));
show('php://temp', [rewind($f), strlen(stream_get_contents($f))]);
show('stream_copy', stream_copy_to_stream(fopen('tree/48.csv', 'r'), fopen('copied', 'w')));
show('copy', [copy('tree/48.csv', 'again'), md5_file('again') === md5_file('copied')]);
show('rename', [rename('again', 'tree/of/some/depth/again'), file_exists('again')]);
show('x', quiet(fn () => fopen('copied', 'x')));
show('touch', [touch('copied', 1000000000, 1100000000), filemtime('copied'), fileatime('copied')]);
symlink('tree/47.csv', 'link');
link('tree/46.csv', 'hard');
clearstatcache();
show('links', [readlink('link'), is_link('link'), stat('hard')['nlink'], lstat('link')['size'], stat('hard')['ino'] === stat('tree/46.csv')['ino']]);
show('realpath', realpath('tree/of/../of/some/./depth'));

show('errors', [
    quiet(fn () => fopen('none', 'r')), quiet(fn () => mkdir('tree')), quiet(fn () => rmdir('tree')),
    quiet(fn () => unlink('none')), quiet(fn () => rename('none', 'x')), quiet(fn () => file_put_contents('tree', 'x')),
    quiet(fn () => scandir('none')), quiet(fn () => fopen(str_repeat('x', 256), 'w')), quiet(fn () => readlink('copied')),
]);

// Sessions are files too.
ini_set('session.use_cookies', '0');
ini_set('session.save_path', '/work/sessions');
ini_set('session.cache_limiter', '');
mkdir('sessions');
foreach (['one', 'two', 'one'] as $id) {
    session_id($id);
    $started = quiet(fn () => session_start());
    $_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
    show("session $id", [$started, $_SESSION['visits']]);
    session_write_close();
    $_SESSION = [];
}
show('saved', array_map(fn ($f) => [$f, file_get_contents("sessions/$f")], array_values(array_diff(scandir('sessions'), ['.', '..']))));

$temp = tempnam('/work', 'tmp');
file_put_contents($temp, 'x');
show('tempnam', [strpos($temp, '/work/tmp'), filesize($temp), unlink($temp)]);

// A directory that shrinks while it is listed.
mkdir('many');
for ($i = 0; $i < 300; $i++) { touch("many/$i"); }
$dir = opendir('many');
$seen = 0;
while (($name = readdir($dir)) !== false) {
    if ($name[0] !== '.') { unlink("many/$name"); $seen++; }
}
closedir($dir);
foreach (array_diff(scandir('many'), ['.', '..']) as $name) { unlink("many/$name"); }
show('rmdir', rmdir('many'));
$all = scandir('.');
show('end', $all);
