//! `image analyze`: what layers do to each other, by hand-made images, and the page.

use serde_json::{Value, json};

use super::Cli;
use crate::support::archive::Archive;
use crate::support::script::Script;

/// Text that no other begins with, six random bits a byte.
fn noise(seed: u32, len: usize) -> String {
    let mut state = seed.wrapping_mul(2_654_435_769) | 1;
    let letter = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from(b'0' + (state >> 26) as u8)
    });
    letter.take(len).collect()
}

impl Cli {
    /// Layers that overwrite, remove and repeat files of known sizes.
    fn with_layers() -> Self {
        let cli = Self::new();
        let lower = Archive::new()
            .dir("d")
            .file("d/kept", &noise(1, 1000))
            .file("d/over", &noise(2, 200))
            .file("d/gone", &noise(3, 30))
            .file("same", &noise(4, 4000))
            .file("opaque/a", &noise(5, 7))
            .file("opaque/b", &noise(6, 8))
            .file("two", &noise(7, 500))
            .hard_link("names", "two")
            .symlink("link", "same");
        let upper = Archive::new()
            .file("d/over", &noise(8, 60))
            .file("d/.wh.gone", "")
            .file("same", &noise(4, 4000))
            .file("opaque/.wh..wh..opq", "")
            .file("opaque/c", &noise(9, 9))
            .file(".wh.two", "");
        cli.file("lower.tar", lower.end())
            .file("upper.tar", upper.end());
        cli.run("image import lower.tar --layer upper.tar --tag app:1")
            .fine();
        cli
    }
}

fn pick(value: &Value, keys: &[&str]) -> Vec<u64> {
    let one = |key: &&str| {
        value[*key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key} of {value}"))
    };
    keys.iter().map(one).collect()
}

#[test]
fn layers_are_charged_with_what_they_do() {
    let cli = Cli::with_layers();
    let told = cli.json("image analyze app:1");
    let sums = [
        "files",
        "dirs",
        "symlinks",
        "logical_bytes",
        "wasted_files",
        "wasted_bytes",
    ];
    // kept, over, same, c, and the file with two names, of which one is left.
    assert_eq!(
        pick(&told, &sums),
        [
            5,
            2,
            1,
            1000 + 60 + 4000 + 9 + 500,
            5,
            200 + 30 + 4000 + 7 + 8
        ]
    );
    let layers = told["layers"].as_array().unwrap();
    let keys = [
        "number",
        "added_files",
        "added_bytes",
        "dirs",
        "symlinks",
        "whiteouts",
        "opaque_dirs",
        "overwritten_files",
        "overwritten_bytes",
        "repeated_files",
        "repeated_bytes",
        "removed_files",
        "removed_bytes",
        "wasted_files",
        "wasted_bytes",
    ];
    let lower = [
        0,
        7,
        1000 + 200 + 30 + 4000 + 15 + 500,
        1,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        5,
        4245,
    ];
    assert_eq!(pick(&layers[0], &keys), lower);
    // Removed: gone, a, b, and one name of a file of 500 bytes, which so wastes nothing.
    let upper = [
        1,
        3,
        60 + 4000 + 9,
        0,
        0,
        2,
        1,
        2,
        4200,
        1,
        4000,
        4,
        30 + 15 + 500,
        0,
        0,
    ];
    assert_eq!(pick(&layers[1], &keys), upper);
    // What is there again has its chunks from below.
    assert_eq!(
        (pick(
            &layers[1],
            &["chunk_bytes", "new_chunk_bytes", "shared_chunk_bytes"]
        )),
        [4069, 69, 0]
    );
    assert_eq!(layers[1]["created_by"], "import upper.tar");
    assert_eq!(layers[0]["shared_with"], json!([]));
    assert_eq!(
        told["largest_files"][0],
        json!({"path": "/same", "layer": 1, "size_bytes": 4000})
    );
    assert_eq!(
        told["largest_dirs"][0],
        json!({"path": "/d", "files": 2, "size_bytes": 1060})
    );
    assert_eq!(
        told["largest_wasted"][0],
        json!({"path": "/same", "layer": 0, "hidden_by": 1, "overwritten": true, "size_bytes": 4000})
    );
    assert_eq!(told["largest_wasted"][2]["overwritten"], false);
    assert_eq!(told["trace"], Value::Null);
    let few = cli.json("image analyze app:1 --top 1");
    assert_eq!(few["largest_files"].as_array().unwrap().len(), 1);
}

#[test]
fn chunks_of_other_images_are_shared() {
    let cli = Cli::with_layers();
    // The lower layer once more, and one file of the upper one under another name.
    cli.file("c.tar", Archive::new().file("x", &noise(9, 9)).end());
    cli.run("image import lower.tar --layer c.tar --tag other:1")
        .fine();
    let layers = cli.json("image analyze app:1")["layers"].clone();
    assert_eq!(layers[0]["shared_with"], json!(["other:1"]));
    assert_eq!(layers[0]["shared_chunk_bytes"], layers[0]["chunk_bytes"]);
    assert_eq!(layers[1]["shared_with"], json!([]));
    assert_eq!(layers[1]["shared_chunk_bytes"], 4000 + 9);
}

#[test]
fn compression_is_measured() {
    let cli = Cli::new();
    cli.file("dir/zeros-and-ones", "01".repeat(500_000))
        .file("noise/n", noise(1, 300_000));
    cli.run("image import dir --layer noise --tag app:1").fine();
    let layers = cli.json("image analyze app:1")["layers"].clone();
    let of = |number: usize| {
        let told = &layers[number]["compression"];
        assert_eq!(told["whole"], true);
        pick(told, &["sampled_bytes", "gzip_bytes", "zstd_bytes"])
    };
    let (text, random) = (of(0), of(1));
    assert!(
        text[0] == 1_000_000 && text[1] < 10_000 && text[2] < 10_000,
        "{text:?}"
    );
    assert!(
        random[0] == 300_000 && random[1] > 220_000 && random[2] > 220_000,
        "{random:?}"
    );
    // Past the bound a sample stands for the whole.
    cli.file("more/a", "0123456789abcdef".repeat(40 << 16));
    cli.run("image import more --tag more:1").fine();
    let told = cli.json("image analyze more:1")["layers"][0]["compression"].clone();
    assert_eq!(told["whole"], false);
    let sampled = told["sampled_bytes"].as_u64().unwrap();
    assert!((1 << 20..=32 << 20).contains(&sampled), "{sampled}");
    let text = cli.run("image analyze more:1").fine().text();
    assert!(text.contains('~'), "{text}");
}

#[test]
fn traces_tell_what_was_never_opened() {
    let cli = Cli::with_layers();
    cli.guest(&Script::new().cat("d/kept").cat("names"));
    cli.run("run --bare --image app:1 --trace t.jsonl --guest guest.wat")
        .fine();
    let trace = cli.json("image analyze app:1 --trace t.jsonl")["trace"].clone();
    let keys = [
        "opened_files",
        "read_bytes",
        "unread_files",
        "unread_bytes",
        "unknown_paths",
    ];
    assert_eq!(pick(&trace, &keys), [2, 1500, 3, 60 + 4000 + 9, 0]);
    assert_eq!(trace["largest_unread"][0]["path"], "/same");
    let text = cli.run("image analyze app:1 --trace t.jsonl").fine().text();
    assert!(text.contains("3 files never opened"), "{text}");
    // One of another image says so; what is no trace is refused.
    cli.file("other.jsonl", "{\"path\":\"/none\",\"read_bytes\":1}\n");
    let both = cli.json("image analyze app:1 --trace t.jsonl --trace other.jsonl");
    assert_eq!(both["trace"]["unknown_paths"], 1);
    cli.file("bad.jsonl", "{}\n")
        .run("image analyze app:1 --trace bad.jsonl")
        .failed(1, &["bad.jsonl", "line 1", "run --trace"]);
    cli.run("image analyze app:1 --trace none.jsonl")
        .failed(1, &["none.jsonl"]);
}

#[test]
fn the_page_lets_no_name_act() {
    let cli = Cli::new();
    let names = [
        "</script><img src=x onerror=alert(1)>",
        "<svg onload=alert(1)>/'\"><script>alert(2)<",
        "<!--<script>",
        "{{script}}",
        "\u{2028}\u{202e}odd",
    ];
    let mut archive = Archive::new();
    for (number, name) in names.iter().enumerate() {
        archive = archive.file(name, &noise(number as u32, 100 + number));
    }
    let upper = Archive::new().file("<!--<script>", "new");
    cli.file("<u>&.tar", archive.end())
        .file("up.tar", upper.end());
    cli.run("image import <u>&.tar --layer up.tar --tag app:1")
        .fine();
    cli.run("image analyze app:1 --html page.html").fine();
    let page = std::fs::read_to_string(cli.path("page.html")).unwrap();
    assert_eq!(page.matches("<script").count(), 2, "{page}");
    assert_eq!(page.matches("</script>").count(), 2);
    for forbidden in [
        "<img", "<svg", "<!--", "<u>", "http:", "https:", "\u{2028}", "\u{202e}",
    ] {
        let (before, rest) = page.split_once(forbidden).unwrap_or_default();
        assert!(
            !page.contains(forbidden),
            "{forbidden}: {}{}",
            &before[before.len().saturating_sub(99)..],
            &rest[..rest.len().min(99)]
        );
    }
    assert!(page.contains("import &lt;u&gt;&amp;.tar"), "{page}");
    let data = page
        .split("id=\"data\">")
        .nth(1)
        .unwrap()
        .split("</script>")
        .next()
        .unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    let shown = data["names"].as_str().unwrap();
    assert!(shown.contains("</"), "a name is text: {shown}");
    assert!(shown.contains("img src=x onerror=alert(1)>") && shown.contains("{{script}}"));
    assert!(shown.contains("\\u{202e}odd"), "{shown}");
    assert_eq!(data["unopened"], Value::Null);
    // Nothing but what carries the page's own mark may run.
    assert!(
        page.contains("default-src 'none'; script-src 'nonce-blake3-"),
        "{page}"
    );
}

#[test]
fn a_page_of_many_files_is_bounded() {
    let cli = Cli::new();
    let mut archive = Archive::new();
    for number in 0..60_000 {
        archive = archive.file(format!("d{}/{number:-<90}", number % 50), "x");
    }
    cli.file("many.tar", archive.end());
    cli.run("image import many.tar --tag many:1").fine();
    cli.run("image analyze many:1 --html page.html").fine();
    let page = std::fs::read_to_string(cli.path("page.html")).unwrap();
    assert!(
        (4_000_000..5_000_000).contains(&page.len()),
        "{}",
        page.len()
    );
    assert!(page.contains("small entries have no room"));
}

#[test]
fn analyze_refuses_what_is_not_there() {
    let cli = Cli::new();
    cli.run("image analyze app:1")
        .failed(1, &["store", "store init"]);
    assert!(!cli.path("store").exists());
    let cli = Cli::with_layers();
    cli.run("image analyze none")
        .failed(1, &["none:latest", "no such image"]);
    cli.run("image analyze").refused(&["REF"]);
    cli.run("image analyze app:1 --top x").refused(&["--top"]);
    cli.run("image analyze app:1 --html no/such/dir.html")
        .failed(1, &["no/such/dir.html"]);
    assert!(!cli.names().contains(&"no".to_owned()));
}
