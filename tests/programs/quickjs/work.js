// File work through QuickJS's `std` and this build's own file module; prints
// what it sees, nothing that depends on the host.
import * as std from 'std';
import * as fs from '_node:fs';

function stat(value) {
    const { size, nlink, is_file, is_directory, is_symlink } = value;
    return is_directory ? 'a directory' : { size, nlink, is_file, is_symlink };
}
function call(name, ...args) {
    let value;
    try {
        value = fs[name](...args);
        if (name.includes('stat')) value = stat(value);
        // It gives its whole buffer.
        if (name === 'readlinkSync') value = value.replace(/\0*$/, '');
    } catch (error) {
        value = error.code ?? String(error);
    }
    print(name, args.join(' ').slice(0, 80), JSON.stringify(value));
}
function write(path, text, mode = 'w') {
    const file = std.open(path, mode);
    file.puts(text);
    file.close();
}

call('mkdirSync', '/work/d', false, 0o777);
call('mkdirSync', '/work/d', false, 0o777);
call('mkdirSync', '/work/a/b/c', true, 0o777);
for (let i = 0; i < 60; i++) write(`/work/d/${i}`, `line ${i}\n`.repeat(i));
write('/work/d/9', 'more\n', 'a');
call('statSync', '/work/d/59');
call('statSync', '/work/d');
call('renameSync', '/work/d/59', '/work/a/b/c/moved');
call('renameSync', '/work/d', '/work/a/b/c/moved');
call('renameSync', '/work/d/8', '/work/d/7');
call('symlinkSync', 'a/b/c/moved', '/work/link');
call('readlinkSync', '/work/link');
call('lstatSync', '/work/link');
call('statSync', '/work/link');
call('linkSync', '/work/d/6', '/work/hard');
call('statSync', '/work/hard');
call('copyFileSync', '/work/a/b/c/moved', '/work/copied');
call('truncateSync', '/work/copied', 5);
call('truncateSync', '/work/copied', 70000);
call('statSync', '/work/copied');
call('realpathSync', '/work/a/../d/./5');
call('rmSync', '/work/d/5', false, false);
call('rmSync', '/work/d/5', false, false);
call('rmdirSync', '/work/d', false);
call('rmdirSync', '/work/d/6', false);
call('statSync', '/work/none');
call('statSync', '/work/hard/x');
call('statSync', '/work/' + 'x'.repeat(256));
call('rmdirSync', '/work/a', true);

const file = std.open('/work/big', 'w+');
for (let i = 0; i < 5000; i++) file.puts(`${i} ${i * i}\n`);
file.seek(0, std.SEEK_SET);
let lines = 0, bytes = 0;
for (let line; (line = file.getline()) !== null; lines++) bytes += line.length + 1;
print('lines', lines, bytes, file.tell(), file.eof());
file.seek(-10, std.SEEK_END);
print('tail', JSON.stringify(file.readAsString()));
file.seek(1 << 20, std.SEEK_SET);
file.puts('end');
file.seek(70000, std.SEEK_SET);
const hole = new Uint8Array(4096);
print('hole', file.read(hole.buffer, 0, 4096), hole.reduce((sum, byte) => sum + byte, 0));
file.close();
call('statSync', '/work/big');
print('no file', std.open('/work/none', 'r') === null, std.loadFile('/work/none') === null);
print('load', std.loadFile('/work/d/9').length, std.loadFile('/work/hard') === std.loadFile('/work/d/6'));
