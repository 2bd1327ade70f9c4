//! `image append` and `image mutate`: what changes, and that layers do not.

use serde_json::{Value, json};

use super::Cli;
use crate::support::archive::Archive;
use crate::support::layout::{Layout, described};
use crate::support::script::Script;

/// An image `app:1` that came from an OCI layout, so that its layer has a blob.
fn with_app() -> Cli {
    let cli = Cli::new();
    let layout = Layout::new();
    let layer = Archive::new()
        .file("a", "1")
        .file("app.wat", &Script::new().print_args().print_env().wat());
    let one = layout.image_for("linux", "amd64", &[layer.end()]);
    layout.index(&[described(&one, Some(("linux", "amd64")), None)]);
    cli.file("layout.tar", layout.archive());
    cli.run("image import layout.tar --tag app:1").fine();
    cli
}

fn layers(inspected: &Value) -> Vec<Value> {
    let layers = inspected["layers"].as_array().unwrap().iter();
    layers
        .map(|layer| json!([layer["digest"], layer["blob"], layer["diff_id"]]))
        .collect()
}

#[test]
fn layers_go_on_top_of_those_that_stay() {
    let cli = with_app();
    cli.file("x.tar", Archive::new().file("b", "2").end())
        .file("dir/c", "3");
    let made = cli.json("image append app:1 x.tar dir --tag app:2");
    assert_eq!(
        (&made["tag"], &made["layers"]),
        (&json!("app:2"), &json!(3))
    );
    let (before, after) = (
        cli.json("image inspect app:1"),
        cli.json("image inspect app:2"),
    );
    assert_eq!(layers(&after)[..1], layers(&before)[..]);
    assert!(before["layers"][0]["blob"].is_string(), "{before}");
    assert_eq!(after["config"], before["config"]);
    let tree = cli.json("image tree app:2")["entries"].clone();
    assert_eq!(tree.as_array().unwrap().len(), 5, "{tree}");
    let history = cli.json("image history app:2")["history"].clone();
    assert_eq!(history[0]["created_by"], "append dir");
    assert_eq!(history[0]["layer"], after["layers"][2]["digest"]);
    assert_eq!(history[1]["created_by"], "append x.tar");
    cli.run("image append app:1 nowhere --tag app:3")
        .failed(1, &["nowhere"]);
    cli.run("image append none x.tar --tag app:3")
        .failed(1, &["none:latest"]);
    cli.run("image append app:1 --tag app:3").refused(&["SRC"]);
    cli.run("image append app:1 x.tar").refused(&["--tag"]);
    cli.run("image inspect app:3").failed(1, &["app:3"]);
}

#[test]
fn the_configuration_changes_and_layers_do_not() {
    let cli = with_app();
    cli.run(
        "image mutate app:1 --tag app:2 --entrypoint /app.wat,-x --cmd [\"a,b\"] --env A=1 --env B=2=3 \
         --label team=web --user 5:6 --workdir /srv --set-platform wasip1/wasm",
    )
    .fine();
    let (before, after) = (
        cli.json("image inspect app:1"),
        cli.json("image inspect app:2"),
    );
    assert_eq!(layers(&after), layers(&before));
    let config = &after["config"];
    assert_eq!(config["entrypoint"], json!(["/app.wat", "-x"]));
    assert_eq!(config["cmd"], json!(["a,b"]));
    assert_eq!(config["env"], json!(["A=1", "B=2=3"]));
    assert_eq!(config["labels"], json!({"team": "web"}));
    assert_eq!(
        (&config["user"], &config["working_dir"]),
        (&json!("5:6"), &json!("/srv"))
    );
    assert_eq!(
        (&config["os"], &config["architecture"]),
        (&json!("wasip1"), &json!("wasm"))
    );
    let history = cli.json("image history app:2")["history"].clone();
    assert_eq!(history[0]["empty_layer"], true);
    let by = history[0]["created_by"].as_str().unwrap();
    assert!(
        by.starts_with("mutate --entrypoint") && !by.contains("2=3"),
        "values are not told: {by}"
    );
    assert_eq!(history[1]["layer"], after["layers"][0]["digest"]);
    // It is what a run starts with.
    let text = cli.run("run --image app:2").fine().text();
    assert!(text.contains("a,b") && text.contains("B=2=3"), "{text}");
    // What has the same name is replaced, what is empty goes.
    cli.run("image mutate app:2 --tag app:3 --env A=9 --label team=x --label new=y --user= --cmd=")
        .fine();
    let config = cli.json("image inspect app:3")["config"].clone();
    assert_eq!(config["env"], json!(["A=9", "B=2=3"]));
    assert_eq!(config["labels"], json!({"team": "x", "new": "y"}));
    assert_eq!(
        (&config["user"], &config["cmd"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(config["entrypoint"], json!(["/app.wat", "-x"]));
}

#[test]
fn mutate_refuses_what_it_cannot_do() {
    let cli = with_app();
    cli.run("image mutate app:1 --tag x")
        .refused(&["nothing to change", "--entrypoint"]);
    cli.run("image mutate app:1 --env A=1").refused(&["--tag"]);
    cli.run("image mutate app:1 --tag app:2 --workdir srv")
        .refused(&["--workdir", "such as /srv"]);
    cli.run("image mutate app:1 --tag x --env A")
        .refused(&["--env", "NAME=VALUE"]);
    cli.run("image mutate app:1 --tag x --cmd [1]")
        .refused(&["--cmd"]);
    cli.run("image mutate none --tag x --user 1")
        .failed(1, &["none:latest"]);
    cli.file("wait.wat", Script::new().echo().wat());
    cli.run("image prepare --at stdin --quiet --tag ready:1 wait.wat")
        .fine();
    cli.run("image mutate ready:1 --tag x --env A=1")
        .failed(1, &["ready:1", "--env", "prepared"]);
    cli.run("image mutate ready:1 --tag ready:2 --label a=b")
        .fine();
    assert!(cli.json("image inspect ready:2")["checkpoint"].is_object());
}
