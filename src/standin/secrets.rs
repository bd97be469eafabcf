//! What a Rhizome needs that listens on an address which is not loopback: a certificate and
//! tokens. Made once; files that are there are left as they are.

use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::StandinError;

/// Bytes of a token: as many as of a key of AES-256.
const TOKEN_BYTES: usize = 32;

/// Names under which Rhizome is reached, if no others are given: in the network of
/// `docker-compose.yml`, and from its host.
const NAMES: [&str; 2] = ["rhizome", "localhost"];

/// What can be said on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct SecretsArgs {
    /// The folder to write to
    pub folder: PathBuf,
    /// A name under which Rhizome is reached
    #[arg(long = "name", default_values_t = NAMES.map(str::to_owned))]
    pub names: Vec<String>,
}

/// Writes `ca.crt`, `tls.crt`, `tls.key`, `operators-token` and `alerts-token`.
///
/// # Errors
///
/// Returns why a file cannot be written.
pub fn write(args: &SecretsArgs) -> Result<(), StandinError> {
    std::fs::create_dir_all(&args.folder)
        .map_err(StandinError::io(format!("`{}`", args.folder.display())))?;
    for name in ["operators-token", "alerts-token"] {
        let mut token = String::new();
        for byte in rand::random::<[u8; TOKEN_BYTES]>() {
            let _ = write!(token, "{byte:02x}");
        }
        keep(&args.folder.join(name), &token)?;
    }
    // The authority is written last: with it all three are there, of one making.
    if args.folder.join("ca.crt").exists() {
        return Ok(());
    }
    let made = rhizome_standin::certify(&args.names)
        .map_err(|error| StandinError::Certificate(error.to_string()))?;
    for (name, text) in [
        ("tls.key", &made.key),
        ("tls.crt", &made.certificate),
        ("ca.crt", &made.authority),
    ] {
        let path = args.folder.join(name);
        let _ = std::fs::remove_file(&path);
        keep(&path, text)?;
    }
    Ok(())
}

/// Writes a file that only its owner can read, unless it is there.
fn keep(path: &Path, text: &str) -> Result<(), StandinError> {
    use std::io::{ErrorKind, Write as _};
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let what = || format!("`{}` cannot be written", path.display());
    match opened {
        Ok(mut file) => file
            .write_all(text.as_bytes())
            .map_err(StandinError::io(what())),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StandinError::io(what())(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_made_once_and_belong_together() {
        let folder = tempfile::tempdir().unwrap();
        let args = SecretsArgs {
            folder: folder.path().join("secrets"),
            names: vec!["localhost".to_owned()],
        };
        let read = || {
            [
                "ca.crt",
                "tls.crt",
                "tls.key",
                "operators-token",
                "alerts-token",
            ]
            .map(|name| std::fs::read_to_string(args.folder.join(name)).unwrap())
        };
        write(&args).unwrap();
        let first = read();
        write(&args).unwrap();
        assert_eq!(read(), first);
        assert_ne!(first[3], first[4]);
        assert!(first[0].starts_with("-----BEGIN CERTIFICATE-----"));
    }
}
