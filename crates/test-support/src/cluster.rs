//! A throw-away PostgreSQL server: a cluster in a temporary folder, reached by a socket in it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "only tests use it, and it may fail them")]

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A running server of its own; killed when dropped. As root it runs as the user `postgres`.
pub struct Cluster {
    folder: tempfile::TempDir,
    bin: PathBuf,
    owner: Option<(u32, u32)>,
}

impl Cluster {
    /// Makes an empty cluster and starts its server.
    ///
    /// # Panics
    /// PostgreSQL is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let cluster = Self { folder: tempfile::tempdir().unwrap(), bin: programs(), owner: owner() };
        if let Some((user, group)) = cluster.owner {
            chown(cluster.folder.path(), Some(user), Some(group)).unwrap();
        }
        let data = cluster.data();
        let settings = ["--auth=trust", "--username=books", "--encoding=UTF8", "--no-locale"].map(OsStr::new);
        cluster.run("initdb", [OsStr::new("-D"), data.as_os_str()].into_iter().chain(settings));
        cluster.begin();
        cluster
    }

    /// Starts the server, on its socket only.
    ///
    /// # Panics
    /// It does not start.
    pub fn begin(&self) {
        let options = format!("-c listen_addresses='' -k {}", self.folder.path().display());
        let log = self.folder.path().join("log");
        self.control("start", &["-o", &options, "-l", log.to_str().unwrap()]);
    }

    /// Kills the server: no clean end.
    ///
    /// # Panics
    /// It does not run.
    pub fn kill(&self) {
        self.control("stop", &["-m", "immediate"]);
    }

    /// Makes a new database and gives its connection string.
    ///
    /// # Panics
    /// There is one of this name.
    #[must_use]
    pub fn database(&self, name: &str) -> String {
        let mut client = postgres::Client::connect(&self.url("postgres"), postgres::NoTls).unwrap();
        client.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        self.url(name)
    }

    fn url(&self, database: &str) -> String {
        format!("host={} user=books dbname={database}", self.folder.path().display())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn control(&self, act: &str, more: &[&str]) {
        let data = self.data();
        let first = [OsStr::new(act), OsStr::new("-w"), OsStr::new("-D"), data.as_os_str()];
        self.run("pg_ctl", first.into_iter().chain(more.iter().map(OsStr::new)));
    }

    fn run<'a>(&self, program: &str, arguments: impl Iterator<Item = &'a OsStr>) {
        let mut command = Command::new(self.bin.join(program));
        command.args(arguments).current_dir(self.folder.path());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        // A server keeps what it inherits open, so its output goes to its log and not to a pipe that would be waited for.
        let status = command.stdout(std::process::Stdio::null()).status().unwrap();
        assert!(status.success(), "{program}: {status}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// PostgreSQL does not run as root; its own user is there where it is installed.
fn owner() -> Option<(u32, u32)> {
    if std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() != 0) {
        return None;
    }
    let number = |flag| -> u32 {
        let Output { stdout, .. } = Command::new("id").args([flag, "postgres"]).output().unwrap();
        String::from_utf8(stdout)
            .unwrap()
            .trim()
            .parse()
            .expect("as root this test needs the user postgres: install the package postgresql")
    };
    Some((number("-u"), number("-g")))
}

/// The newest installed version, which Debian keeps out of the path.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    found.sort_by_key(|bin| {
        let version = bin.parent().and_then(Path::file_name).and_then(OsStr::to_str);
        version.and_then(|version| version.parse::<u32>().ok())
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&path));
    let found = found.into_iter().rev().find(|bin| bin.join("initdb").exists());
    found.expect("PostgreSQL is needed for this test: install the package postgresql")
}
