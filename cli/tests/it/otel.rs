//! Spans of pulls for a collector of OpenTelemetry, with the feature `otel`.

use super::{Cli, Done};
use crate::support::collector::Collector;
use crate::support::fake_registry::FakeRegistry;

/// Pulls an image that is there and one that is not; returns the manifest's digest.
fn pull_some(collector: &Collector) -> (String, String) {
    let (cli, fake) = (Cli::new(), FakeRegistry::start());
    cli.file("tree/file", "text");
    let name = fake.name("team/app:1");
    cli.run("image import tree --tag app:1 --store made").fine();
    cli.run(&format!("image push app:1 {name} --store made"))
        .fine();
    let pull = |name: &str| {
        let mut command = cli.command(&format!("image pull {name}"));
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
        Done::of(&mut command)
    };
    pull(&name).fine();
    pull(&fake.name("team/none:1")).failed(1, &["404"]);
    let manifest = fake.manifest("team/app", "1").unwrap();
    let digest = crate::support::fake_registry::sha256(&manifest);
    (fake.name("team"), digest)
}

#[cfg(feature = "otel")]
#[test]
fn otel_pulls_are_spans_with_image_and_manifest() {
    let collector = Collector::start();
    let (team, digest) = pull_some(&collector);
    let seen = collector.until(2);
    for span in &seen {
        assert!(
            span.is_whole && span.name == "image.pull" && span.service == "stratafs",
            "{span:?}"
        );
        assert!(
            span.attributes["container.image.tags"].contains("\"1\""),
            "{span:?}"
        );
    }
    let of = |name: &str| {
        let name = format!("{team}/{name}");
        let mut all = seen.iter();
        all.find(|span| span.attributes["container.image.name"] == name)
            .unwrap()
    };
    assert_eq!(of("app").attributes["oci.manifest.digest"], digest);
    assert_eq!(of("app").status.0, 0);
    let none = of("none");
    assert_eq!(
        (none.status.0, &*none.attributes["error.type"]),
        (2, "pull_failed")
    );
    assert!(none.status.1.contains("404"), "{none:?}");
}

#[cfg(not(feature = "otel"))]
#[test]
fn otel_is_nothing_in_a_build_without_it() {
    let collector = Collector::start();
    let (team, digest) = pull_some(&collector);
    assert!(team.ends_with("/team") && digest.starts_with("sha256:"));
    assert_eq!(collector.connections(), 0);
    let nothing = (collector.until(0).len(), collector.headers().len());
    assert_eq!(nothing, (0, 0));
}
