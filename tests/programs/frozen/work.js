// Stands in a generator and under finally, with a promise that waits.
import * as std from 'std';

function mark() {
    const file = std.open('/.stratafs/checkpoint', 'r');
    if (file) file.close();
}

function* words() {
    try {
        for (const word of ['one', 'two', 'three']) {
            const got = yield word;
            print(word, 'got', got);
        }
    } finally {
        print('generator left');
    }
}

function deep(level, call) {
    try {
        return level ? deep(level - 1, call) : call();
    } finally {
        print('out of', level);
    }
}

const log = std.open('/work/log', 'w+');
const later = [];
const waiting = new Promise((resolve) => later.push(resolve)).then((value) => print('then', value));
const iterator = words();
try {
    deep(3, () => {
        iterator.next();
        iterator.next(5);
        log.puts('before\n');
        std.out.puts('half a line, ');
        mark();
        print('and the rest:', [3, 1, 2].sort().join(), new Map([['a', { b: 1n }]]).get('a').b);
        iterator.return(7);
        print('asked', std.in.getline());
        log.puts('after\n');
        throw new RangeError('inner');
    });
} catch (error) {
    print(error.name, error.message);
}
log.seek(0, std.SEEK_SET);
print(log.readAsString().split('\n').join());
later[0](std.in.getline());
waiting.then(() => {
    print('end');
    std.exit(3);
});
