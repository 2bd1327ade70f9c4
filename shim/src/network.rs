//! Which network a container is in, and what its guest is given of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::runner::{Network, RunPlan, SocketPlace};
use stratafs::vfs::Fs;

use crate::config::{NetworkMode, ShimConfig};
use crate::limits::{MAX_BOUND_FILE_BYTES, MAX_HANDLES};
use crate::lookup::{LookupRules, PodNames};
use crate::netns::{HomeNetwork, PodNetwork, lowest_port};
use crate::spec::{ContainerSpec, NetworkWish};
use crate::status::Status;

/// What all containers of a process share of networks.
pub struct Networks {
    mode: NetworkMode,
    /// The process's own, or why it cannot be told from others.
    home: Result<Arc<HomeNetwork>, String>,
}

/// The network of one container.
#[derive(Debug)]
pub enum ContainerNetwork {
    /// It has none.
    None,
    /// The host's, which is the process's own.
    Host,
    /// A namespace.
    Own(Arc<PodNetwork>),
}

impl Networks {
    /// Begins for a process.
    #[must_use]
    pub fn new(config: &ShimConfig) -> Self {
        Self {
            mode: config.network,
            home: HomeNetwork::open().map(Arc::new),
        }
    }

    /// Finds the network of a container. That of one in a pod is what the pod itself has: the path
    /// that Kubernetes' containers have in their spec is `/proc/PID/ns/net` of the process that the
    /// pod runs in, which is this one, and so leads to the host's.
    ///
    /// # Errors
    /// What the container is to be in cannot be found or entered, or has not what is to be set there,
    /// by the name of the field.
    pub fn of(&self, bundle: &Path, spec: &ContainerSpec) -> Result<ContainerNetwork, Status> {
        if self.mode == NetworkMode::None {
            return Ok(ContainerNetwork::None);
        }
        let wish = match (&spec.pod, &spec.network) {
            (Some(pod), NetworkWish::At(_)) if !spec.is_sandbox => of_pod(bundle, pod)?,
            (_, wish) => wish.clone(),
        };
        let path = match wish {
            NetworkWish::Host => {
                return match spec.sysctls.first() {
                    None => Ok(ContainerNetwork::Host),
                    Some(name) => Err(Status::invalid(format_args!(
                        "linux.sysctl: {name:?}: the container is on the network of the host, and sets nothing there"
                    ))),
                };
            }
            // Nobody has set it up: what it could have is a loopback that is down.
            NetworkWish::New => return Ok(ContainerNetwork::None),
            NetworkWish::At(path) => path,
        };
        let said = |what: &str| {
            Status::invalid(format_args!(
                "linux.namespaces: network: {what}; no guest runs on another network instead"
            ))
        };
        let home = self.home.as_ref().map_err(|why| said(why))?;
        let mut opened = PodNetwork::open(&path, home).map_err(|why| said(&why))?;
        opened.set(&spec.sysctls).map_err(Status::invalid)?;
        Ok(ContainerNetwork::Own(Arc::new(opened)))
    }
}

/// Reads what the own container of a pod asks for, out of its bundle, which lies beside.
fn of_pod(bundle: &Path, pod: &str) -> Result<NetworkWish, Status> {
    let is_name = !pod.is_empty() && !pod.contains(['/', '\0']) && pod != "." && pod != "..";
    let beside = bundle.parent().filter(|_| is_name).map(|all| all.join(pod));
    let said = |what: &dyn std::fmt::Display| {
        Status::invalid(format_args!("the network of pod {pod:?}: {what}"))
    };
    let beside: PathBuf = beside.ok_or_else(|| said(&"that cannot be the name of a container"))?;
    if !beside.join("config.json").exists() {
        return Err(said(&format_args!(
            "its own container is not here: there is no bundle {}",
            beside.display()
        )));
    }
    let spec = ContainerSpec::read(&beside).map_err(|status| said(&status.message))?;
    match spec.is_sandbox {
        true => Ok(spec.network),
        false => Err(said(&"the container of that name is no pod's own")),
    }
}

/// Sets the network of a guest.
///
/// # Errors
/// A file that says how names are looked up cannot be read.
pub fn give(
    network: &ContainerNetwork,
    spec: &ContainerSpec,
    image: &Image,
    plan: &mut RunPlan,
) -> Result<(), Status> {
    let (place, lowest) = match network {
        ContainerNetwork::None => return Ok(()),
        ContainerNetwork::Host => (None, lowest_port()),
        ContainerNetwork::Own(pod) => {
            let place: Arc<dyn SocketPlace> = Arc::<PodNetwork>::clone(pod);
            (Some(place), pod.lowest_port)
        }
    };
    let rules = LookupRules::read(
        &shown(plan, image, "/etc/resolv.conf")?,
        &shown(plan, image, "/etc/hosts")?,
    );
    let mut given = Network::inherit();
    given.set_lookup(Arc::new(PodNames::new(rules, place.clone())));
    if let Some(place) = place {
        given.set_place(place);
    }
    if !spec.binds_low_ports {
        given.set_lowest_port(lowest);
    }
    plan.network = Some(given);
    plan.max_handles = Some(MAX_HANDLES);
    Ok(())
}

/// Returns the text of a small file as the guest sees it when it starts; none if it has none.
fn shown(plan: &RunPlan, image: &Image, path: &str) -> Result<String, Status> {
    let given = plan.files.iter().find(|file| file.path == path);
    let read = match given {
        Some(file) => return Ok(String::from_utf8_lossy(&file.bytes).into_owned()),
        None => Fs::new(image).read_up_to(path, MAX_BOUND_FILE_BYTES),
    };
    match read {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if matches!(error.errno(), Errno::NoEntry | Errno::NotDirectory) => {
            Ok(String::new())
        }
        Err(error) => Err(Status::invalid(format_args!("{path}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysctls::NetworkSettings;

    fn networks(mode: NetworkMode) -> Networks {
        Networks::new(&ShimConfig {
            network: mode,
            ..ShimConfig::default()
        })
    }

    fn spec(network: NetworkWish, pod: Option<&str>) -> ContainerSpec {
        ContainerSpec {
            network,
            pod: pod.map(str::to_owned),
            ..ContainerSpec::default()
        }
    }

    #[test]
    fn the_network_of_a_container_is_that_of_its_pod_whatever_its_own_spec_says() {
        let home = tempfile::tempdir().unwrap();
        let bundle = home.path().join("c");
        let networks = networks(NetworkMode::Pod);
        let of = |spec: &ContainerSpec| {
            let found = networks.of(&bundle, spec);
            found.map_err(|status| status.message)
        };
        let shims = NetworkWish::At("/proc/self/ns/net".into());
        let missing = of(&spec(shims.clone(), Some("p"))).unwrap_err();
        assert!(
            missing.contains("its own container is not here"),
            "{missing}"
        );
        let pod = home.path().join("p");
        std::fs::create_dir(&pod).unwrap();
        let write = |linux: &str, kind: &str| {
            let text = format!(
                r#"{{"process": {{"args": ["a"]}}, "linux": {linux}, "annotations": {{"io.kubernetes.cri.container-type": "{kind}"}}}}"#
            );
            std::fs::write(pod.join("config.json"), text).unwrap();
        };
        write("{}", "sandbox");
        let found = of(&spec(shims.clone(), Some("p"))).unwrap();
        assert!(matches!(found, ContainerNetwork::Host));
        write(r#"{"namespaces": [{"type": "network"}]}"#, "sandbox");
        let found = of(&spec(shims.clone(), Some("p"))).unwrap();
        assert!(matches!(found, ContainerNetwork::None));
        let gone = r#"{"namespaces": [{"type": "network", "path": "/gone"}]}"#;
        write(gone, "sandbox");
        let text = of(&spec(shims.clone(), Some("p"))).unwrap_err();
        assert!(text.contains("network: /gone: No such file"), "{text}");
        write("{}", "container");
        let text = of(&spec(shims.clone(), Some("p"))).unwrap_err();
        assert!(text.contains("no pod's own"), "{text}");
        for pod in ["", ".", "..", "../p", "/p"] {
            let text = of(&spec(shims.clone(), Some(pod))).unwrap_err();
            assert!(text.contains("cannot be the name of a container"), "{text}");
        }
        // The host's own network is not had by a path.
        let text = of(&spec(shims, None)).unwrap_err();
        assert!(text.contains("the network of the host"), "{text}");
        let found = of(&spec(NetworkWish::Host, None)).unwrap();
        assert!(matches!(found, ContainerNetwork::Host));
        let settings = [("net.ipv4.ip_forward".to_owned(), "0".to_owned())];
        let mut host = spec(NetworkWish::Host, None);
        host.sysctls = NetworkSettings::of(settings.into()).unwrap();
        let text = of(&host).unwrap_err();
        assert!(
            text.starts_with("linux.sysctl: \"net.ipv4.ip_forward\""),
            "{text}"
        );
        // Nobody sets anything for a network that is none.
        host.network = NetworkWish::New;
        assert!(matches!(of(&host), Ok(ContainerNetwork::None)));
        // A pod itself is refused as its containers are.
        let mut sandbox = spec(NetworkWish::At("/gone".into()), Some("p"));
        sandbox.is_sandbox = true;
        assert!(of(&sandbox).unwrap_err().contains("/gone"));
    }

    #[test]
    fn without_networks_nothing_is_looked_at() {
        let networks = networks(NetworkMode::None);
        let gone = spec(NetworkWish::At("/gone".into()), Some("../p"));
        let found = networks.of(Path::new("/none/c"), &gone).unwrap();
        let mut plan = RunPlan::default();
        give(&found, &gone, &Image::empty(), &mut plan).unwrap();
        assert!(plan.network.is_none() && plan.max_handles.is_none());
        give(&ContainerNetwork::Host, &gone, &Image::empty(), &mut plan).unwrap();
        assert!(plan.network.is_some_and(|network| !network.is_none()));
    }
}
