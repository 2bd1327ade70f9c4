//! What is counted of a process and its containers, and the page of it that Prometheus reads.

use std::fmt::Write;
use std::time::Duration;

use crate::limits::MAX_WAITING_EVENTS;

/// What is counted of a process, and of all containers of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeFigures {
    /// Containers that were made and not started.
    pub created: u64,
    /// Containers whose guest runs.
    pub running: u64,
    /// Containers whose guest stands still.
    pub paused: u64,
    /// Containers that have ended, and are there still.
    pub stopped: u64,
    /// Bytes of memories and tables.
    pub memory: u64,
    /// Bytes of files that guests wrote.
    pub files: u64,
    /// Time of processors, that of containers which are gone as well.
    pub cpu: Duration,
    /// Containers that were made since the process began.
    pub made: u64,
    /// Containers that could not be made.
    pub refused: u64,
    /// Events that containerd did not take.
    pub events_lost: u64,
    /// Events that wait for containerd.
    pub events_waiting: u64,
}

impl NodeFigures {
    /// Returns the page that Prometheus reads.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::new();
        let mut family = |name: &str, kind: &str, help: &str, values: &[(&str, String)]| {
            let _written = writeln!(page, "# HELP stratafs_shim_{name} {help}");
            let _written = writeln!(page, "# TYPE stratafs_shim_{name} {kind}");
            for (labels, value) in values {
                let _written = writeln!(page, "stratafs_shim_{name}{labels} {value}");
            }
        };
        let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        family(
            "build_info",
            "gauge",
            "The version of the shim.",
            &[(&version, "1".to_owned())],
        );
        let states = [
            ("{state=\"created\"}", self.created.to_string()),
            ("{state=\"running\"}", self.running.to_string()),
            ("{state=\"paused\"}", self.paused.to_string()),
            ("{state=\"stopped\"}", self.stopped.to_string()),
        ];
        family("containers", "gauge", "Containers by state.", &states);
        let one = |value: u64| [("", value.to_string())];
        family(
            "memory_bytes",
            "gauge",
            "Bytes of memories and tables of guests.",
            &one(self.memory),
        );
        family(
            "file_bytes",
            "gauge",
            "Bytes of files that guests wrote.",
            &one(self.files),
        );
        let seconds = [("", format!("{:.3}", self.cpu.as_secs_f64()))];
        family(
            "cpu_seconds_total",
            "counter",
            "Time of processors that guests took.",
            &seconds,
        );
        let counters = [
            ("created_total", "Containers that were made.", self.made),
            (
                "refused_total",
                "Containers that could not be made.",
                self.refused,
            ),
            (
                "events_lost_total",
                "Events that containerd did not take.",
                self.events_lost,
            ),
        ];
        for (name, help, value) in counters {
            family(name, "counter", help, &one(value));
        }
        let help = "Events that wait for containerd.";
        family("events_waiting", "gauge", help, &one(self.events_waiting));
        page
    }

    /// Returns why the process is of no use to containerd, if it is not.
    #[must_use]
    pub fn ailment(&self) -> Option<String> {
        let room = u64::try_from(MAX_WAITING_EVENTS).unwrap_or(u64::MAX);
        (self.events_waiting >= room / 2).then(|| {
            format!(
                "{} events wait for containerd, which takes none",
                self.events_waiting
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_each_figure_with_its_help_and_type() {
        let figures = NodeFigures {
            running: 2,
            cpu: Duration::from_millis(1500),
            made: 7,
            ..NodeFigures::default()
        };
        let page = figures.page();
        for line in [
            "stratafs_shim_containers{state=\"running\"} 2",
            "stratafs_shim_cpu_seconds_total 1.500",
            "# TYPE stratafs_shim_created_total counter",
            "stratafs_shim_created_total 7",
        ] {
            assert!(page.lines().any(|has| has == line), "{line}: {page}");
        }
        assert_eq!(
            page.matches("# HELP").count(),
            page.matches("# TYPE").count()
        );
        assert!(page.ends_with('\n'));
    }
}
