//! Components that a host calls itself.

use stratafs::image::Image;
use stratafs::runner::{
    Guest, GuestDir, HostedComponent, HostedState, InstanceTemplate, RunPlan, RunnerConfig,
    RunnerError,
};
use stratafs::vfs::Rights;

use crate::support::guest::{World, guest, http_guest};

fn config() -> RunnerConfig {
    let mut config = RunnerConfig::default();
    config.threads = 2;
    config
}

#[test]
fn a_component_tells_its_exports_and_what_it_lacks() {
    let file = Guest::from_file(&http_guest()).unwrap();
    let component = HostedComponent::new(&file, config()).unwrap();
    let exports = component.exports();
    let handler = |name: &String| name.starts_with("wasi:http/incoming-handler@0.2");
    assert!(exports.iter().any(handler), "{exports:?}");
    let linker = component.linker::<HostedState>().unwrap();
    // Without wasi:http, which the host has to add.
    let error = component.link(linker).err().unwrap();
    assert!(matches!(error, RunnerError::Link { .. }), "{error}");
    let core = Guest::from_bytes("core", "(module)".as_bytes()).unwrap();
    let error = HostedComponent::new(&core, config()).unwrap_err();
    let text = "core: not a component: it is a core module";
    assert_eq!(error.to_string(), text);
}

#[test]
fn instances_find_what_was_prepared_and_nothing_of_each_other() {
    let file = Guest::from_file(&guest("hello", World::P2)).unwrap();
    let component = HostedComponent::new(&file, config()).unwrap();
    let pre = component.link(component.linker().unwrap()).unwrap();
    let mut plan = RunPlan::default();
    plan.preopens = vec![GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    plan.furnished = true;
    let template = InstanceTemplate::new(&Image::empty(), plan.clone(), &config()).unwrap();
    template.fs().write("/prepared", "all").unwrap();
    let (one, other) = (template.fork(), template.fork());
    one.write("/prepared", "one").unwrap();
    for (number, fs) in [(1, &one), (2, &other)] {
        let state = template.state(fs, number).unwrap();
        let mut store = component.store(state);
        store.limiter(HostedState::limiter);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(pre.instantiate_async(&mut store)).unwrap();
        // Again over the same file system: a session.
        drop(template.state(fs, number).unwrap());
    }
    assert_eq!(one.read("/prepared").unwrap(), b"one");
    assert_eq!(other.read("/prepared").unwrap(), b"all");
    plan.preopens[0].dir = "/missing".into();
    let error = InstanceTemplate::new(&Image::empty(), plan, &config()).unwrap_err();
    assert!(matches!(error, RunnerError::Preopen { .. }), "{error}");
}
