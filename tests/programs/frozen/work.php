<?php
// Stands in a generator and under finally, with output that is buffered, and reads its input as a device.
function mark() { @fopen('/.stratafs/checkpoint', 'r'); }

function rows() {
    try {
        foreach (['one', 'two', 'three'] as $n => $word) {
            $got = yield $n => $word;
            echo "$word got $got\n";
        }
        return 'all';
    } finally {
        echo "generator left\n";
    }
}

function deep($level, $call) {
    try {
        return $level ? deep($level - 1, $call) : $call();
    } finally {
        echo "out of $level\n";
    }
}

$in = fopen('/dev/stdin', 'r');
$log = fopen('/work/log', 'a+');
ob_start();
$rows = rows();
try {
    deep(2, function () use ($rows, $in, $log) {
        foreach ([5, 6] as $n) {
            echo $rows->current(), ' is asked, ';
            $rows->send($n);
        }
        fwrite($log, "before\n");
        mark();
        echo 'and the rest: ', trim(fgets($in)), "\n";
        fwrite($log, "after\n");
        throw new DomainException('inner');
    });
} catch (DomainException $error) {
    echo get_class($error), ' ', $error->getMessage(), "\n";
}
rewind($log);
echo json_encode(explode("\n", stream_get_contents($log))), "\n";
$text = ob_get_clean();
echo strlen($text), "\n", $text;
echo trim(fgets($in)), ' ', preg_match('/(\w+) is asked/', $text, $found), ' ', $found[1], "\n";
exit(3);
