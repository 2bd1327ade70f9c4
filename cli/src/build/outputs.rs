//! Where the image goes beside the store: looked at before any work, written at its end.

use std::fs;
use std::io;
use std::path::PathBuf;

use stratafs::image::Reference;
use stratafs::staged::StagedDir;
use stratafs::store::Store;
use stratafs::transfer::{ExportOptions, Format, TransferError};

use crate::build_args::{BuildArgs, OutputTo};
use crate::failure::Failure;
use crate::outfile::{self, OutFile};

/// What `--iidfile` and `--output` ask for, once it is known that it can be written.
pub(super) struct Outputs<'a> {
    iidfile: Option<OutFile>,
    outputs: &'a [OutputTo],
}

impl<'a> Outputs<'a> {
    /// Makes sure that all can be written, and leaves no trace of it.
    pub(super) fn check(args: &'a BuildArgs) -> Result<Self, Failure> {
        check_stdout(args)?;
        let files = args.output.iter().filter(|output| !is_stdout(output));
        let mut places: Vec<PathBuf> = Vec::new();
        for dest in args
            .iidfile
            .iter()
            .chain(files.clone().map(|output| &output.dest))
        {
            let place = std::path::absolute(dest).map_err(|error| Failure::at(dest, error))?;
            if places.contains(&place) {
                return Err(Failure::usage(format_args!(
                    "{}: two outputs go there: give each a name of its own",
                    stratafs::name::show_path(dest)
                )));
            }
            places.push(place);
        }
        for output in files {
            check(output)?;
        }
        let iidfile = args.iidfile.as_deref().map(OutFile::create).transpose()?;
        Ok(Self {
            iidfile,
            outputs: &args.output,
        })
    }

    /// Returns whether an archive goes to stdout, which then holds nothing else.
    pub(super) fn has_stdout(&self) -> bool {
        self.outputs.iter().any(is_stdout)
    }

    /// Writes the image. The file with its digest is returned, to be written last.
    pub(super) fn write(
        self,
        store: &Store,
        image: &Reference,
    ) -> Result<Option<OutFile>, Failure> {
        for output in self.outputs {
            let options = ExportOptions {
                format: output.format,
                ..ExportOptions::default()
            };
            outfile::export(store, image, &output.dest, options)?;
        }
        Ok(self.iidfile)
    }
}

/// Makes sure that one can be written.
fn check(output: &OutputTo) -> Result<(), Failure> {
    let dest = &output.dest;
    match output.format {
        Format::Oci | Format::Dir | Format::Artifact => {
            let is_free = match fs::read_dir(dest) {
                Ok(mut entries) => entries.next().is_none(),
                Err(error) => {
                    error.kind() == io::ErrorKind::NotFound && dest.symlink_metadata().is_err()
                }
            };
            if !is_free {
                return Err(TransferError::Occupied(dest.clone()).into());
            }
            let staged = StagedDir::create(dest);
            staged.map(drop).map_err(|error| Failure::at(dest, error))
        }
        Format::Tar | Format::OciArchive | Format::ArtifactArchive => {
            // What waits for a reader is not opened twice.
            let waits = |meta: fs::Metadata| !meta.is_file() && !meta.is_dir();
            match dest.metadata().is_ok_and(waits) {
                true => Ok(()),
                false => OutFile::create(dest).map(drop),
            }
        }
        // One that the library has and this command does not know.
        other => Err(Failure::usage(format_args!(
            "--output: cannot write {other:?}: expected a directory, a layout or an archive"
        ))),
    }
}

/// Refuses two things on one stdout, and what stdout cannot be.
fn check_stdout(args: &BuildArgs) -> Result<(), Failure> {
    let mut outputs = args.output.iter().filter(|output| is_stdout(output));
    let Some(output) = outputs.next() else {
        return Ok(());
    };
    if args.json || outputs.next().is_some() {
        return Err(Failure::usage(
            "stdout is asked for twice: leave --json or one of --output out, or name a file",
        ));
    }
    match output.format {
        Format::Tar | Format::OciArchive => Ok(()),
        _ => Err(Failure::usage(
            "--output: a directory cannot go to stdout: write type=tar,dest=- or type=oci-archive,dest=-",
        )),
    }
}

/// Returns whether an output goes to stdout.
fn is_stdout(output: &OutputTo) -> bool {
    outfile::is_stdout(&output.dest)
}
