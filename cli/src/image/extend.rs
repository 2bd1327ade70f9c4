//! `image append`, `image mutate`.

use std::collections::BTreeMap;

use stratafs::image::ImageConfig;
use stratafs::store::Store;
use stratafs::transfer::{self, ImportOptions};

use super::make_args::{AppendArgs, MutateArgs};
use super::moving::say;
use crate::checkpoint;
use crate::failure::Failure;
use crate::sources::{self, Layers};
use crate::watch::MovingBar;

pub(super) fn append(store: &Store, args: AppendArgs) -> Result<(), Failure> {
    let layers = Layers::new(args.layers, &args.sources)?;
    let reference = &args.image.reference;
    // Not read for nothing where there is no image.
    store.info(reference.as_str())?;
    let opened = layers
        .paths
        .iter()
        .map(|path| sources::open(path, &layers.options));
    let opened = opened.collect::<Result<_, _>>()?;
    let bar = MovingBar::start();
    let options = ImportOptions {
        source: layers.options.clone(),
        set_platform: args.stamp.set_platform,
        watcher: Some(bar.watcher()),
    };
    let made = transfer::append(store, reference, opened, &args.tag, &options);
    bar.end();
    layers.report_left_out();
    say(args.form, &args.tag, &made?)
}

pub(super) fn mutate(store: &Store, args: MutateArgs) -> Result<(), Failure> {
    let changed = changed(&args);
    if changed.is_empty() {
        return Err(Failure::usage(
            "nothing to change: give --entrypoint, --cmd, --env, --label, --user, --workdir or --set-platform",
        ));
    }
    let reference = &args.image.reference;
    let starts = ["--entrypoint", "--cmd", "--env", "--workdir"];
    let starts = changed.iter().find(|option| starts.contains(option));
    if let (Some(option), Some(_)) = (
        starts,
        checkpoint::inspect(&store.image(reference.as_str())?, reference)?,
    ) {
        return Err(Failure::new(format_args!(
            "{reference}: {option}: the image is prepared, and its guest has been started already: change the \
             image that it was made of, and prepare that"
        )));
    }
    let by = format!("mutate {}", changed.join(" "));
    let change = |config: &mut ImageConfig| args.apply(config);
    let made = transfer::reconfigure(store, reference, &args.tag, change, &by)?;
    say(args.form, &args.tag, &made)
}

/// The options that were given, by their names: values may be secrets.
fn changed(args: &MutateArgs) -> Vec<&'static str> {
    let given = [
        ("--entrypoint", !args.entrypoint.is_empty()),
        ("--cmd", !args.cmd.is_empty()),
        ("--env", !args.env.is_empty()),
        ("--label", !args.labels.is_empty()),
        ("--user", args.user.is_some()),
        ("--workdir", args.workdir.is_some()),
        ("--set-platform", args.stamp.set_platform.is_some()),
    ];
    let given = given.into_iter().filter(|(_, given)| *given);
    given.map(|(option, _)| option).collect()
}

impl MutateArgs {
    fn apply(&self, config: &mut ImageConfig) {
        let words = |given: &[super::make_args::Words]| -> Option<Vec<String>> {
            let words: Vec<String> = given.iter().flat_map(|words| words.0.clone()).collect();
            (!words.is_empty()).then_some(words)
        };
        if !self.entrypoint.is_empty() {
            config.entrypoint = words(&self.entrypoint);
        }
        if !self.cmd.is_empty() {
            config.cmd = words(&self.cmd);
        }
        for (name, value) in &self.env {
            let own = format!("{name}={value}");
            let known = config.env.iter_mut().find(|variable| {
                let known = variable.split_once('=').map(|(known, _)| known);
                known == Some(name.as_str())
            });
            match known {
                Some(known) => *known = own,
                None => config.env.push(own),
            }
        }
        let labels: BTreeMap<String, String> = self.labels.iter().cloned().collect();
        config.labels.extend(labels);
        let text = |given: &String| (!given.is_empty()).then(|| given.clone());
        if let Some(user) = &self.user {
            config.user = text(user);
        }
        if let Some(dir) = &self.workdir {
            config.working_dir = text(dir);
        }
        if let Some(platform) = &self.stamp.set_platform {
            config.os = Some(platform.os().to_owned());
            config.architecture = Some(platform.architecture().to_owned());
            config.variant = platform.variant().map(str::to_owned);
        }
    }
}
