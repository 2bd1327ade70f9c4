//! Who is told what goes through a stream of 0.3: no call of the guest shows that.

use crate::errno::Errno;

/// Is told of each step of one stream.
pub(crate) trait WatchStream: Send + Sync {
    /// A step begins. One that has to wait begins again each time that it is tried.
    fn begin(&mut self);

    /// It is done.
    fn end(&mut self, step: Step<'_>);
}

/// What a step came to.
#[cfg_attr(
    not(feature = "runner"),
    expect(dead_code, reason = "only a runner tells")
)]
pub(crate) enum Step<'a> {
    /// These bytes were moved; none at the end of the file.
    Bytes(&'a [u8]),
    /// Entries of these names were given; none at the end of the directory.
    Entries(&'a mut dyn Iterator<Item = &'a str>),
    /// The stream ended with an error.
    Failed(Errno),
}

/// Whoever is told, if there is anybody.
#[derive(Default)]
pub(crate) struct StreamWatcher(pub(crate) Option<Box<dyn WatchStream>>);

impl StreamWatcher {
    #[inline]
    pub(in crate::wasi) fn begin(&mut self) {
        if let Some(watch) = &mut self.0 {
            watch.begin();
        }
    }

    #[inline]
    pub(in crate::wasi) fn end(&mut self, step: Step<'_>) {
        if let Some(watch) = &mut self.0 {
            watch.end(step);
        }
    }
}
